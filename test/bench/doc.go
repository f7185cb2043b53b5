// Package bench measures, as ratios inside one run, what a replication costs
// beside the bare work: the pipeline against a loop of SDK puts to the same
// emulator, and against reading the same file; and how much memory a process
// takes for a disk of 1 TiB. `make bench` prints it; no test judges by it.
package bench
