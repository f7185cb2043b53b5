// Package manifest keeps, on the connector's own disk, the digest of every
// block of a snapshot: 32 bytes for 512 KiB.
//
// A [Table] is one file: two copies of a header, then one slot a block. It
// serves twice: as the manifest of a sealed snapshot (what is in the cloud),
// and as the journal of a draft (what was put so far). [Disk] is the folder of
// one virtual disk that holds both and turns the one into the other.
//
// What is here is a cache. A table names the one snapshot that it describes
// and is used only where that snapshot is the chosen parent; a lost, torn or
// stale table costs time, never a byte. The package imports nothing of ours.
package manifest
