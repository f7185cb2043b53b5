package schedule

import "errors"

var (
	// ErrFenced: the run was ended or taken over by another appliance.
	ErrFenced = errors.New("the run belongs to another appliance by now")
	// ErrNotFound: there is no such VM, run, wave or policy.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the thing is not in a state in which this can be done.
	ErrConflict = errors.New("not possible now")
	// ErrInvalid: what was asked for makes no sense.
	ErrInvalid = errors.New("not valid")
)
