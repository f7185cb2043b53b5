// Package web is the console's pages: what a migration engineer looks at all
// day. The server renders every page whole (html/template), so that they can be
// read without JavaScript; a few small modules then keep them fresh and carry
// actions to the API under /api/v1. Nothing is built and nothing is fetched
// from elsewhere: style, scripts and icons are embedded and served under
// /static/ by names that carry their content's hash.
//
//	web.go       the handler: routes, who may see, what every page has
//	backend.go   what the pages ask
//	launches.go  what they ask of launches, and which actions are possible when
//	launchdoc.go a launch's document: what of it is shown, bounded
//	static.go    embedded files and their hashed names
//	render.go    templates and their functions
//	words*.go    states and reasons in words: what they mean, what to do
//	format.go    numbers with units, times
//	chart*.go    data in, SVG coordinates out
//	page_*.go    one page each: ask the backend, fill a view
//
// It imports schedule and transfer, never console, which mounts it.
package web
