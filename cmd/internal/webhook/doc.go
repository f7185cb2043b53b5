// Package webhook tells other programs of the service's events.
//
//	sender.go   all hooks: settings, start and end
//	hook.go     one hook as the settings have it
//	lane.go     one hook's way through the events: order, retries, giving up
//	attempt.go  one request and what its answer means
//	payload.go  what is sent
//	sign.go     how it is signed
//	cursor.go   how far a hook is, over restarts
//	leader.go   which appliance of a fleet sends
//
// Each hook gets the events in their order, each at least once. It has a
// goroutine and a cursor of its own, so that one that is slow or away holds up
// no other. An event that a receiver cannot take is tried again for hours; one
// that it refuses (4xx) is given up after some tries, told of, and the next one
// follows.
//
// In a fleet one appliance sends: the leader, which Config.Leader knows. A
// claim on each event would let appliances deliver neighbouring events side by
// side, and their order would be lost. While the leader changes two may send for
// a moment; the cursor, which moves only from where its owner knows it to be,
// tells the former one, and the receiver sees the same ID twice.
package webhook
