package store_test

import (
	"snapferry/schedule/engine"
	"snapferry/schedule/service"
	"snapferry/schedule/store"
)

var (
	_ engine.Store        = (*store.DB)(nil)
	_ engine.LaunchStore  = (*store.DB)(nil)
	_ service.Store       = (*store.DB)(nil)
	_ service.LaunchStore = (*store.DB)(nil)
)
