package launch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// SSM runs commands in guests.
type SSM interface {
	// Run runs one command and returns the end of its output; a command that
	// fails, or a guest that is not there, is an error. It ends with ctx.
	Run(ctx context.Context, instance string, windows bool, command string) (output string, err error)
}

// SystemsManager is SSM by AWS Systems Manager: SendCommand and
// GetCommandInvocation, of JSON protocol 1.1. The SDK's own client is a module
// more for two calls.
type SystemsManager struct {
	Region      string
	Endpoint    string // "" is AWS's
	Credentials aws.CredentialsProvider
	HTTP        interface {
		Do(*http.Request) (*http.Response, error)
	}
	Poll time.Duration // between looks at a command; 0 is two seconds
}

const (
	ssmPoll = 2 * time.Second
	// ssmDelivery is the least that SendCommand takes, in seconds: how long the
	// guest may take to fetch the command.
	ssmDelivery = 30
	maxAnswer   = 1 << 20
)

// Run implements SSM.
func (s *SystemsManager) Run(ctx context.Context, instance string, windows bool, command string) (string, error) {
	document := "AWS-RunShellScript"
	if windows {
		document = "AWS-RunPowerShellScript"
	}
	var sent struct{ Command struct{ CommandId string } }
	err := s.call(ctx, "SendCommand", map[string]any{
		"InstanceIds": []string{instance}, "DocumentName": document, "TimeoutSeconds": ssmDelivery,
		"Parameters": map[string][]string{"commands": {command}},
	}, &sent)
	if err != nil {
		return "", err
	}
	poll := s.Poll
	if poll == 0 {
		poll = ssmPoll
	}
	for {
		var got struct{ Status, StandardOutputContent, StandardErrorContent string }
		err := s.call(ctx, "GetCommandInvocation", map[string]any{"CommandId": sent.Command.CommandId, "InstanceId": instance}, &got)
		output := got.StandardOutputContent + got.StandardErrorContent
		switch {
		case err != nil && strings.Contains(err.Error(), "InvocationDoesNotExist"): // not yet
		case err != nil:
			return "", err
		case got.Status == "Success":
			return output, nil
		case got.Status == "Pending" || got.Status == "InProgress" || got.Status == "Delayed":
		default:
			return output, fmt.Errorf("run the command in %s: it ended as %s", instance, got.Status)
		}
		if err := sleepFor(ctx, poll); err != nil {
			return output, fmt.Errorf("run the command in %s: %w", instance, err)
		}
	}
}

func (s *SystemsManager) call(ctx context.Context, action string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("call ssm:%s: %w", action, err)
	}
	endpoint := s.Endpoint
	if endpoint == "" {
		endpoint = "https://ssm." + s.Region + ".amazonaws.com/"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("call ssm:%s: %w", action, err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "AmazonSSM."+action)
	keys, err := s.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("call ssm:%s: get AWS credentials: %w", action, err)
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), "ssm", s.Region, time.Now()); err != nil {
		return fmt.Errorf("call ssm:%s: sign: %w", action, err)
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("call ssm:%s: %w", action, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("call ssm:%s: %w", action, err)
	}
	if resp.StatusCode != http.StatusOK {
		var fault struct {
			Type    string `json:"__type"`
			Message string `json:"message"`
		}
		_ = json.Unmarshal(answer, &fault) // the status says enough
		return fmt.Errorf("call ssm:%s: status %d: %s %s", action, resp.StatusCode, fault.Type, printable(fault.Message, maxTagValue))
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("call ssm:%s: read the answer: %w", action, err)
	}
	return nil
}
