// Package ebs keeps replicas in Amazon EBS snapshots, through the EBS direct
// APIs and the few calls of EC2 that go with them. It implements
// transfer.Store, transfer.Draft and transfer.SnapshotReader.
//
// Start with [Open], which follows the conventions of the AWS SDKs (profile,
// region, credential_process, AWS_ENDPOINT_URL_EBS, AWS_CA_BUNDLE,
// HTTPS_PROXY); what [Config] names goes before those.
//
// How the files hang together:
//
//	config.go, client.go   what can be set, and the clients made from it
//	call.go                one operation: admit, attempt, classify, try again
//	classify.go, codes.go  an error → kind, whether to retry, why (pure)
//	retry.go               how often and when (pure)
//	pacer.go, gate.go      how many a second, how many at once (pure)
//	redact.go              no secret leaves in an error (pure)
//	tags.go, untag.go      transfer.Label ⇄ tags; the tags are the truth (pure)
//	start.go, draft.go     a snapshot being written; watch.go waits for its end
//	snapshots.go           what there is; confirm and delete; abandon.go what a crash left
//	reader.go              reading a snapshot back
//	cost.go                what the requests cost
//
// # What it relies on
//
// Every rule about the service stands in the project's AWS facts; a comment
// here names the fact where the code would look odd without it. The ones that
// shape the package: CompleteSnapshot's 202 proves nothing, so that Seal waits
// for EC2's "completed"; a 404 within three minutes of a start means "not
// yet"; the same client token with the same parameters finds the same draft;
// a child inherits its parent's encryption and must not ask for any.
//
// # What it will not do
//
// It deletes nothing that does not carry our tags, and no completed snapshot
// except through [Store.Delete]. It retries requests, never cycles. It prints
// nothing, and no error of it holds credentials, block tokens or signatures.
package ebs
