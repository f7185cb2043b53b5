// Package launch turns a recovery point into a running EC2 instance and takes
// it away again: tests beside the running source, the cutover, its way back,
// and the end of a migration with nothing of ours left behind.
//
// What exists is read from AWS: every resource that a launch makes carries the
// tags of its job from the call that makes it (see [JobTags]). Client tokens
// and names are derived from the job's ID and the step. So any step can be
// repeated by a program that was started after a crash, with the [Job] that its
// caller saved; with the tags alone a launch can be ended ([JobsOf]).
//
// [Plan], [Choose], [Settings.Check], [ForecastOf] and [EstimateOf] are pure.
// A [Launcher] has the effects. It knows no vCenter: the final sync, power and
// conversion are functions that it is given. DESIGN.md says why it is so.
package launch
