// Package fault decides, by rules, when a simulated service misbehaves.
//
// The simulated vCenter and the EBS/EC2 emulator ask a [Set] before (and some
// after) each operation whether a rule fires, and then do what the rule's Kind
// says in the way of their own protocol. The set counts what fired, because a
// fault that never happened proves nothing: a test ends with [Set.Unfired].
package fault
