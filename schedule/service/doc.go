// Package service answers what a person or a program asks of the connector,
// and writes down what they want: pause, sync, waves, policies. It works on the
// database alone, so that it serves the daemon and the command line alike; an
// engine that runs on the same database acts on what was written.
package service
