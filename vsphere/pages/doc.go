// Package pages reads the answers of QueryChangedDiskAreas: at most 2000 areas
// each, to be asked for again and again until the disk's end. It knows nothing
// of the wire and nothing of govmomi, so that answers of any kind can be tried.
package pages
