// Package suite holds the contracts of package transfer as tests that every
// implementation runs: [Store] for snapshots in the cloud, [Source] for a VM
// that can be frozen. The memory fakes run them first; a fake that skips its
// suite would be a lie, and an implementation that fails it cannot be used.
package suite
