package aws

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Command is one that SendCommand asked an instance to run.
type Command struct {
	InstanceID, Document string
	Commands             []string
	// Run counts the commands of the instance, from 1.
	Run int
}

// CommandResult is how a command ends.
type CommandResult struct {
	ExitCode       int
	Stdout, Stderr string
}

// OnCommand sets what commands of SSM answer; nil lets each succeed and say
// nothing. The function must not call the emulator.
func (e *Emulator) OnCommand(run func(Command) CommandResult) {
	defer e.lockCloud()()
	e.cloud.onCommand = run
}

// command is a command of one instance.
type command struct {
	id, document string
	instance     *instance
	sent         time.Time
	result       CommandResult
}

// The documents that run a script.
var ssmDocuments = []string{"AWS-RunShellScript", "AWS-RunPowerShellScript"}

func ssmFault(code, format string, args ...any) *apiError {
	return &apiError{status: 400, code: code, message: fmt.Sprintf(format, args...)}
}

// ssmError has the code in the body, as JSON 1.1 has.
func ssmError(err *apiError) *reply {
	body, _ := json.Marshal(map[string]string{"__type": err.code, "message": err.message})
	return &reply{status: err.status, body: body, header: map[string]string{"Content-Type": "application/x-amz-json-1.1"}}
}

// ssmOp is the operation that the target header names.
func ssmOp(r *http.Request) string {
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AmazonSSM.")
	if !ok || op == "" {
		return "UnknownOperation"
	}
	return op
}

func (c *call) doSSM() (*reply, *apiError) {
	act, ok := map[string]func() (any, *apiError){
		"SendCommand": c.sendCommand, "GetCommandInvocation": c.getInvocation, "DescribeInstanceInformation": c.describeAgents,
	}[c.op]
	if !ok {
		return nil, ssmFault("UnknownOperationException", "")
	}
	if c.e.denied("ssm:" + c.op) {
		return nil, ssmFault("AccessDeniedException", "User: %s is not authorized to perform: ssm:%s", c.e.userARN(), c.op)
	}
	defer c.e.lockCloud()()
	out, err := act()
	if err != nil {
		return nil, err
	}
	body, failed := json.Marshal(out)
	if failed != nil {
		return nil, ssmFault("InternalServerError", "encode the answer: %v", failed)
	}
	return &reply{status: 200, body: body, header: map[string]string{"Content-Type": "application/x-amz-json-1.1"}}, nil
}

// decode reads the request and refuses members that the model does not have.
func (c *call) decode(in any) *apiError {
	d := json.NewDecoder(strings.NewReader(string(c.body)))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		return ssmFault("ValidationException", "The request is not valid: %v", err)
	}
	return nil
}

// online reports whether the agent of an instance has signed in: some time
// after it runs, if its guest works and its profile lets it.
func (e *Emulator) online(i *instance) bool {
	return i.state == "running" && !i.ill && !i.badHost && i.profile != "" && !e.now().Before(i.since.Add(e.opt.AgentDelay))
}

func (c *call) sendCommand() (any, *apiError) {
	var in struct {
		DocumentName, Comment string
		InstanceIds           []string
		Parameters            map[string][]string
		TimeoutSeconds        int
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if !slices.Contains(ssmDocuments, in.DocumentName) {
		return nil, ssmFault("InvalidDocument", "Document with name %s does not exist.", in.DocumentName)
	}
	if in.TimeoutSeconds != 0 && in.TimeoutSeconds < 30 {
		return nil, ssmFault("ValidationException", "Value '%d' at 'timeoutSeconds' failed to satisfy constraint: Member must have value greater than or equal to 30", in.TimeoutSeconds)
	}
	if len(in.Parameters["commands"]) == 0 {
		return nil, ssmFault("InvalidParameters", "Parameter commands is required.")
	}
	if len(in.InstanceIds) == 0 {
		return nil, ssmFault("ValidationException", "InstanceIds or Targets is required.")
	}
	e := c.e
	for _, id := range in.InstanceIds {
		if i := e.cloud.instances[id]; i == nil || !e.online(i) {
			return nil, ssmFault("InvalidInstanceId", "Instances [[%s]] not in a valid state for account %s", id, e.opt.AccountID)
		}
	}
	id := newRequestID()
	for _, instanceID := range in.InstanceIds {
		i := e.cloud.instances[instanceID]
		i.commands++
		cmd := &command{id: id, document: in.DocumentName, instance: i, sent: e.now()}
		if e.cloud.onCommand != nil {
			cmd.result = e.cloud.onCommand(Command{i.id, in.DocumentName, in.Parameters["commands"], i.commands})
		}
		e.cloud.commands[id+"/"+i.id] = cmd
	}
	return map[string]any{"Command": map[string]any{
		"CommandId": id, "DocumentName": in.DocumentName, "InstanceIds": in.InstanceIds, "Status": "Pending", "StatusDetails": "Pending",
		"Comment": in.Comment, "Parameters": in.Parameters, "RequestedDateTime": e.now().Unix(),
	}}, nil
}

func (c *call) getInvocation() (any, *apiError) {
	var in struct{ CommandId, InstanceId, PluginName string } //nolint:revive // the names of the protocol
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	e, cmd := c.e, c.e.cloud.commands[in.CommandId+"/"+in.InstanceId]
	if cmd == nil || e.now().Before(cmd.sent.Add(e.opt.VisibleDelay)) {
		return nil, ssmFault("InvocationDoesNotExist", "")
	}
	status, code, result := "Success", cmd.result.ExitCode, cmd.result
	switch {
	case e.now().Before(cmd.sent.Add(e.opt.TaskDelay)):
		status, code, result = "InProgress", -1, CommandResult{}
	case code != 0:
		status = "Failed"
	}
	return map[string]any{
		"CommandId": cmd.id, "InstanceId": cmd.instance.id, "DocumentName": cmd.document, "Status": status, "StatusDetails": status,
		"ResponseCode": code, "StandardOutputContent": result.Stdout, "StandardErrorContent": result.Stderr,
	}, nil
}

func (c *call) describeAgents() (any, *apiError) {
	var in struct {
		Filters []struct {
			Key    string
			Values []string
		}
		MaxResults int
		NextToken  string
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, i := range c.e.cloud.instances {
		wanted := c.e.online(i)
		for _, f := range in.Filters {
			if f.Key != "InstanceIds" {
				return nil, ssmFault("InvalidFilterKey", "%s", f.Key)
			}
			wanted = wanted && slices.Contains(f.Values, i.id)
		}
		if wanted {
			platform := map[bool]string{true: "Windows", false: "Linux"}[i.image.platform == "windows"]
			list = append(list, map[string]any{"InstanceId": i.id, "PingStatus": "Online", "PlatformType": platform})
		}
	}
	return map[string]any{"InstanceInformationList": list}, nil
}
