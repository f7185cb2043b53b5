package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// The commands of scripts about launches.
func init() {
	maps.Copy(labCommands, map[string]func(*testscript.TestScript, bool, []string){
		"network": command("network (sets SUBNET and TESTSUBNET, in networks of their own)", 0, (*lab).network),
		"holds":   command("holds KIND=N… (all that there is in AWS, of what costs money)", 0, (*lab).holds),
		"power":   command("power VM on|off (how it is)", 2, (*lab).power),
	})
}

func (l *lab) network(ts *testscript.TestScript, _ []string) error {
	for i, name := range []string{"SUBNET", "TESTSUBNET"} {
		vpc, err := l.aws.AddVPC(fmt.Sprintf("10.%d.0.0/16", i+1))
		if err != nil {
			return err
		}
		subnet, err := l.aws.AddSubnet(vpc, fmt.Sprintf("10.%d.1.0/24", i+1), "us-east-1a")
		if err != nil {
			return err
		}
		ts.Setenv(name, subnet)
	}
	return nil
}

// holds compares what is in the account with what is said, kind by kind.
// Interfaces go with their instances.
func (l *lab) holds(_ *testscript.TestScript, args []string) error {
	want := map[string]int{}
	for _, a := range args {
		kind, n, _ := strings.Cut(a, "=")
		count, err := strconv.Atoi(n)
		if err != nil {
			return err
		}
		want[kind] = count
	}
	have, list := map[string]int{}, []string{}
	for _, r := range l.aws.Inventory() {
		if r.Kind != "network-interface" {
			have[r.Kind]++
			list = append(list, r.Kind+" "+r.ID+" ("+r.State+")")
		}
	}
	if !maps.Equal(have, want) {
		slices.Sort(list)
		return fmt.Errorf("AWS holds %v, want %v:\n%s", have, want, strings.Join(list, "\n"))
	}
	return nil
}

func (l *lab) power(_ *testscript.TestScript, args []string) error {
	for _, vm := range l.vc.State().VMs {
		if vm.Name == args[0] && vm.PoweredOn == (args[1] == "on") {
			return nil
		}
	}
	return fmt.Errorf("%s is not powered %s", args[0], args[1])
}
