// Package memory has in-memory fakes of the two ends of a replication: a VM
// that can be frozen ([VM], a transfer.Source) and a store of EBS snapshots
// ([Store], a transfer.Store).
//
// They obey the contracts of package transfer as strictly as the real ones
// (the suites in test/suite run against both), and are as unforgiving:
// absent blocks of an encrypted snapshot read as garbage, a wrong count or
// checksum seals into an error, a parent must be completed, a released VM
// snapshot can no longer be read.
package memory
