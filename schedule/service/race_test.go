//go:build race

package service_test

// slow is how much longer things take.
const slow = 10
