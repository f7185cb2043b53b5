// Package wirelog writes what went over the wire in a field test, with
// everything secret taken out: it is meant to be sent to others.
package wirelog
