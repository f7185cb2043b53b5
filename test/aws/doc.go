// Package aws emulates the part of AWS that Snapferry speaks to: the EBS
// direct APIs (REST-JSON 2019-11-02), the snapshot, tag, volume and encryption
// calls of EC2 (Query 2016-11-15) and STS GetCallerIdentity, over HTTP or
// HTTPS on a loopback listener. One listener serves all three services; the
// service is the one that the SigV4 credential scope names.
//
// It is meant to be as strict as the services: what AWS rejects, it rejects,
// with the status, header and body that the SDKs decode. Requests must carry a
// valid SigV4 signature; only PutSnapshotBlock may leave its payload unsigned.
// Every 400 closes the connection, as the services do.
//
// # What is emulated
//
//   - StartSnapshot with parents (independent of the parent once completed),
//     client tokens, tags, encryption rules and the inactivity timeout.
//   - PutSnapshotBlock with its checksum, index and length rules; two puts of
//     one block at a time are CONFLICTING_BLOCK_UPDATE.
//   - CompleteSnapshot: any well-formed request is accepted; a wrong count or
//     checksum turns the snapshot to state error later, in DescribeSnapshots.
//   - ListSnapshotBlocks, ListChangedBlocks and GetSnapshotBlock with block and
//     page tokens that expire and belong to one snapshot.
//   - DescribeSnapshots with filters and pages, DeleteSnapshot, the tag calls,
//     encryption by default, regions, zones and a minimum of volumes.
//   - The request rates and the limit on pending snapshots, when asked for, the
//     404s of slow propagation, denied actions, expired credentials, clock skew
//     and the faults of package fault.
//   - What a volume would read ([Emulator.Image]): absent blocks are zeros in an
//     unencrypted snapshot and garbage in an encrypted one.
//
// # Faults
//
// Rules of package fault name the operation ("PutSnapshotBlock",
// "DescribeSnapshots") and as their subject the ID of the (first) resource of
// the call; StartSnapshot has none. The kinds:
//
//   - Throttle: RequestThrottledException (Detail is its reason),
//     RequestLimitExceeded of EC2. Cut, LostAnswer, Stall: as their names say.
//   - WrongBytes: a put arrives corrupted (403 InvalidSignatureException), a get
//     answers corrupted bytes under the right checksum.
//   - DeadSession: the credentials expire, as by [Emulator.ExpireCredentials].
//   - TaskFault: CompleteSnapshot is accepted and the snapshot ends in error.
//   - Error: Detail is an error code, "Code:REASON", or "overload" (a 503).
//   - Lie: Detail is one of the Lie constants.
//
// A rule that fires where it cannot be played is answered with an error that no
// client retries, and listed by [Emulator.Misuse].
//
// # What is not
//
// One account and one region. No sharing, archiving, copying, locking or
// recycle bin; no IAM beyond [Emulator.Deny]; no KMS beyond known key names. The
// state is in memory: what [Options.Dir] holds is block data, which is of no use
// without the process. Time is [Options.Now], except for request rates,
// latency and the age of signatures, which follow the real clock. Chains are not
// flattened: what a child overwrote is kept as long as the child.
//
// Status codes, messages and delays marked "captured" were seen on the real
// service; the texts of other messages are the emulator's own, and nothing
// should depend on them.
package aws
