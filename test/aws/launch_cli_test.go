package aws_test

import (
	"strings"
	"testing"

	"snapferry/test/aws"
)

func TestForeignClientLaunches(t *testing.T) {
	if testing.Short() {
		t.Skip("the aws command takes a second for each call")
	}
	l := newLot(t, aws.Options{})
	l.e.AddInstanceProfile("app")
	c := newCLI(t, l.e)
	image := c.run("ec2", "register-image", "--name", "from the command line", "--architecture", "x86_64", "--virtualization-type", "hvm", "--ena-support",
		"--root-device-name", "/dev/sda1", "--boot-mode", "uefi-preferred", "--block-device-mappings", "DeviceName=/dev/sda1,Ebs={SnapshotId="+l.snap+",VolumeType=gp3}")["ImageId"].(string)
	run := []string{"ec2", "run-instances", "--image-id", image, "--instance-type", "t3.micro", "--subnet-id", l.subnet, "--security-group-ids", l.group,
		"--private-ip-address", "10.1.1.7", "--iam-instance-profile", "Name=app", "--tag-specifications", "ResourceType=instance,Tags=[{Key=vm,Value=web}]"}
	id := c.run(run...)["Instances"].([]any)[0].(map[string]any)["InstanceId"].(string)
	if _, err := c.try(run...); err == nil || !strings.Contains(err.Error(), "InvalidIPAddress.InUse") {
		t.Errorf("the same address again: %v", err)
	}
	out := c.run("ec2", "describe-instances", "--filters", "Name=tag:vm,Values=web")["Reservations"].([]any)[0].(map[string]any)["Instances"].([]any)[0].(map[string]any)
	if out["InstanceId"] != id || out["CurrentInstanceBootMode"] != "uefi" || out["State"].(map[string]any)["Name"] != "running" || out["PrivateIpAddress"] != "10.1.1.7" {
		t.Errorf("described %v", out)
	}
	sent := c.run("ssm", "send-command", "--document-name", "AWS-RunShellScript", "--instance-ids", id, "--parameters", "commands=true")["Command"].(map[string]any)
	got := c.run("ssm", "get-command-invocation", "--command-id", sent["CommandId"].(string), "--instance-id", id)
	if got["Status"] != "Success" {
		t.Errorf("invocation %v", got)
	}
}
