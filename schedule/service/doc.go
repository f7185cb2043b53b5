// Package service answers what a person or a program asks of the connector,
// and writes down what they want: pause, sync, waves, policies. It works on the
// database alone, so that it serves the daemon and the command line alike; an
// engine that runs on the same database acts on what was written.
//
//	service.go   what it works with; store.go, launchstore.go: the database
//	look.go, list.go  what is looked at; launchlook.go: of launches
//	act.go, mark.go, group.go  what is done to VMs, policies and waves
//	launch.go    tests, cutovers and their ends: all that are named, or none
//	launchwish.go, launchrules.go  whether they may begin
//	table.go, csv.go  the table that people edit in a spreadsheet
package service
