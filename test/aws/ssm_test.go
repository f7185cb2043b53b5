package aws_test

import (
	"encoding/json"
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/test/aws"
)

// ssm calls SSM without a client of its own, and returns the answer or the
// error's type.
func (l *lot) ssm(op, body string) (map[string]any, string) {
	l.Helper()
	resp := l.send("ssm", "POST", "/", "", map[string]string{"X-Amz-Target": "AmazonSSM." + op, "Content-Type": "application/x-amz-json-1.1"}, []byte(body))
	out := map[string]any{}
	if err := json.Unmarshal([]byte(statusOf(l.T, resp)), &out); err != nil {
		l.Fatalf("%s: %v", op, err)
	}
	if resp.StatusCode != 200 {
		return nil, out["__type"].(string)
	}
	return out, ""
}

func TestCommands(t *testing.T) {
	c := newClock()
	l := newLot(t, aws.Options{Now: c.now, AgentDelay: tick, TaskDelay: tick}).withImage()
	l.e.AddInstanceProfile("app")
	without := *l.run(l.runInput()).InstanceId
	in := l.runInput()
	in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: awssdk.String("app")}
	id := *l.run(in).InstanceId
	l.e.OnCommand(func(c aws.Command) aws.CommandResult {
		if c.Run == 2 {
			return aws.CommandResult{ExitCode: 3, Stderr: "no"}
		}
		return aws.CommandResult{Stdout: strings.Join(c.Commands, ";")}
	})
	send := func(id string) (string, string) {
		out, code := l.ssm("SendCommand", `{"DocumentName":"AWS-RunShellScript","InstanceIds":["`+id+`"],"Parameters":{"commands":["true","uptime"]}}`)
		if code != "" {
			return "", code
		}
		return out["Command"].(map[string]any)["CommandId"].(string), ""
	}
	if _, code := send(id); code != "InvalidInstanceId" {
		t.Errorf("too early: %q", code)
	}
	c.advance(tick)
	if _, code := send(without); code != "InvalidInstanceId" {
		t.Errorf("without a profile: %q", code)
	}
	agents, _ := l.ssm("DescribeInstanceInformation", `{}`)
	if n := len(agents["InstanceInformationList"].([]any)); n != 1 {
		t.Errorf("%d agents are online", n)
	}
	result := func(command string) string {
		out, code := l.ssm("GetCommandInvocation", `{"CommandId":"`+command+`","InstanceId":"`+id+`"}`)
		if code != "" {
			return code
		}
		return out["Status"].(string) + " " + out["StandardOutputContent"].(string) + out["StandardErrorContent"].(string)
	}
	first, _ := send(id)
	if got := result(first); got != "InProgress " {
		t.Errorf("at once: %s", got)
	}
	c.advance(tick)
	second, _ := send(id)
	c.advance(tick)
	if a, b := result(first), result(second); a != "Success true;uptime" || b != "Failed no" {
		t.Errorf("results %q and %q", a, b)
	}
	if got := result("none"); got != "InvocationDoesNotExist" {
		t.Errorf("unknown command: %s", got)
	}
	if _, code := l.ssm("SendCommand", `{"DocumentName":"Other","InstanceIds":["`+id+`"]}`); code != "InvalidDocument" {
		t.Errorf("unknown document: %s", code)
	}
	l.e.Deny(func(a string) bool { return a == "ssm:SendCommand" })
	if _, code := send(id); code != "AccessDeniedException" {
		t.Errorf("denied: %s", code)
	}
	l.e.ExpireCredentials()
	if got := result(first); got != "ExpiredTokenException" {
		t.Errorf("expired: %s", got)
	}
}
