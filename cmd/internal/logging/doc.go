// Package logging sets up the service's log: slog as text or JSON, with the
// attributes that everybody uses under the same names, and without secrets.
//
//	logging.go   the handler
//	attrs.go     the attributes' names
//	redact.go    what must not be in a log
//	journal.go   what the systemd journal knows already
package logging
