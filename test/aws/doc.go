// Package aws emulates the part of AWS that Snapferry speaks to: the EBS
// direct APIs (REST-JSON 2019-11-02), what EC2 (Query 2016-11-15) has of
// snapshots, tags, volumes, images, instances and the network around them, the
// commands of SSM (JSON 1.1) and STS GetCallerIdentity, over HTTP or HTTPS on a
// loopback listener. One listener serves all services; the service is the one
// that the SigV4 credential scope names.
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
//     encryption by default, regions and zones.
//   - RegisterImage with the defaults that bite (paravirtual, i386, no ENA),
//     DescribeImages, DeregisterImage, ImportImage from snapshots.
//   - RunInstances with what it checks of image, type, zone, network, names,
//     mappings and limits, client tokens, dry runs and launch templates; the
//     states and status checks of instances over time, their attributes, console
//     and screenshot; the replacement of a root volume.
//   - CreateVolume, attaching, detaching, modifying; what a volume's bytes are,
//     to read and to write ([Emulator.Volume]).
//   - Instance types with the figures of the service, offerings, types by
//     requirements; VPCs, subnets, security groups, key pairs and network
//     interfaces, which a test sets up by [Emulator.AddVPC] and its like.
//   - SendCommand and GetCommandInvocation of SSM, scripted by
//     [Emulator.OnCommand].
//   - What the account holds, to see what was left behind ([Emulator.Inventory]).
//   - The request rates and the limit on pending snapshots, when asked for, the
//     404s of slow propagation, the NotFound of fresh resources and late tags of
//     EC2, denied actions, expired credentials, clock skew
//     and the faults of package fault.
//   - What a volume would read ([Emulator.Image]): absent blocks are zeros in an
//     unencrypted snapshot and garbage in an encrypted one.
//
// # Faults
//
// Rules of package fault name the operation ("PutSnapshotBlock",
// "DescribeSnapshots") and as their subject the ID of the (first) resource of
// the call: of the snapshot, the volume, the instance or the image, in this
// order; StartSnapshot and the calls of SSM have none. The kinds:
//
//   - Throttle: RequestThrottledException (Detail is its reason),
//     RequestLimitExceeded of EC2. Cut, LostAnswer, Stall: as their names say.
//   - WrongBytes: a put arrives corrupted (403 InvalidSignatureException), a get
//     answers corrupted bytes under the right checksum.
//   - DeadSession: the credentials expire, as by [Emulator.ExpireCredentials].
//   - TaskFault: CompleteSnapshot is accepted and the snapshot ends in error. Of
//     EC2, RegisterImage, RunInstances (Detail is the code of the state reason),
//     StartInstances, CreateVolume, ModifyVolume, CreateReplaceRootVolumeTask and
//     ImportImage are accepted, and what they began fails.
//   - Error: Detail is an error code ("InsufficientInstanceCapacity"),
//     "Code:REASON", or "overload" (a 503).
//   - Lie: Detail is one of the Lie constants.
//
// A rule that fires where it cannot be played is answered with an error that no
// client retries, and listed by [Emulator.Misuse].
//
// # What is not
//
// One account and one region. No sharing, archiving, copying, locking or
// recycle bin; no IAM beyond [Emulator.Deny]; no KMS beyond known key names, which
// are asked after the answer, as EC2 does. No IPv6, Spot, hosts, hibernation,
// Multi-Attach, CreateSnapshot or instance store; parameters that are not
// emulated are refused as UnknownParameter. Guests do not run: an instance is up
// after its time unless a rule or a test says otherwise. CreateReplaceRootVolumeTask
// takes a snapshot only of the root volume's own launch, as its reference says. The
// state is in memory: what [Options.Dir] holds is block data, which is of no use
// without the process. Time is [Options.Now], except for request rates,
// latency and the age of signatures, which follow the real clock. Chains are not
// flattened: what a child overwrote is kept as long as the child.
//
// Status codes, messages and delays marked "captured" were seen on the real
// service, and so were the figures of instance types; the texts of other
// messages are the emulator's own, and nothing should depend on them. So are the
// codes of EC2 errors that its reference does not give for their case: rules on
// UEFI, TPM and billing of RegisterImage, network interfaces that do not go
// together, replacements of root volumes.
package aws
