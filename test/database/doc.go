// Package database gives tests a database: a PostgreSQL of their own, started
// from the programs that are installed, in a temporary folder, on loopback; or
// a SQLite file.
package database
