// Command snapferry-lab is a simulated vSphere and a simulated AWS in one
// process, to try all of Snapferry without either.
//
//	snapferry-lab run    serves them until it is interrupted
//	snapferry-lab demo   replicates a VM with real file systems, twice,
//	                     restores it and proves it
//
// Everything listens on the loopback address, is forgotten when the process
// ends, and speaks the real protocols: any client of vSphere or AWS will do.
package main
