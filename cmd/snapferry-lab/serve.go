package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"snapferry/test/lab"
	"snapferry/test/vcenter"
)

// serve runs a lab with a few VMs of all sorts until ctx ends.
func serve(ctx context.Context, o options) error {
	l, err := lab.Start(lab.Options{Dir: o.dir, KeepFrozen: true})
	if err != nil {
		return err
	}
	defer l.Close()
	for _, spec := range zoo() {
		if _, err := l.AddVM(spec); err != nil {
			return err
		}
	}
	socket := filepath.Join(o.dir, "disks.sock")
	fmt.Println("# The lab is up. In another shell:")
	for _, kv := range l.Env() {
		k, v, _ := strings.Cut(kv, "=")
		fmt.Printf("export %s='%s'\n", k, v)
	}
	fmt.Printf("snapferry --help\nsnapferry vms --config %s\nsnapferry sync app01 --config %s\n", l.Settings(), l.Settings())
	fmt.Printf("# Live disks over NBD, to write to: nbd+unix:///app01/0?socket=%s\n", socket)
	return l.ServeNBD(ctx, socket)
}

// zoo is VMs that replicate, and some that do not.
func zoo() []vcenter.VMSpec {
	const gib = 1 << 30
	return []vcenter.VMSpec{
		{Name: "app01", Folder: "prod", CBT: true, Disks: []vcenter.DiskSpec{{Size: gib}, {Size: gib/2 + 512}}},
		{Name: "db01", Folder: "prod", Disks: []vcenter.DiskSpec{{Size: 2 * gib}, {Size: 20 * gib, Datastore: "vmfs2"}}},
		{Name: "web01", Folder: "test", Firmware: "efi", Disks: []vcenter.DiskSpec{{Size: gib}}},
		{Name: "cluster01", Disks: []vcenter.DiskSpec{{Size: gib}, {Size: gib, Sharing: "sharingMultiWriter"}}},
		{Name: "scratch01", Disks: []vcenter.DiskSpec{{Size: gib}, {Size: gib, Mode: "independent_persistent"}}},
	}
}
