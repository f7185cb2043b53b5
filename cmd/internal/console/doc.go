// Package console is how the connector is looked at and told what to do over
// HTTP: the API under /api/v1, described by the OpenAPI document that it
// serves, its client, and the doors to the web pages and the metrics.
//
// [New] makes a [Server] of a [Backend], [Listen] opens where it is served,
// [Client] is a Backend that a server elsewhere answers.
//
//	routes.go    what can be asked for, and the role that it takes
//	guard.go     who asks, whether they may, what is written down of it
//	tokens.go    bearer tokens; sessions.go: browsers; attempts.go: wrong tokens
//	views.go     what is looked at; actions.go, groups.go: what is done
//	launch.go    tests and cutovers: a [LaunchBackend]'s, which Client is too
//	stream.go    server-sent events; poller.go: one look for all their readers
//	input.go     queries and bodies, read strictly
//	openapi.yaml the description; tests hold it against routes, types, answers
//
// A VM is written as "vCenter's instance UUID:moref" in paths and parameters
// (see [ID]). A refusal is an [Error], whose codes programs can hold on to.
//
// Nothing here is cached, and nothing is kept but sessions: a Server may stand
// beside others on the same database, each with sessions of its own.
package console
