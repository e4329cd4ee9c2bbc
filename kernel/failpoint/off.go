//go:build !failpoints

package failpoint

// Hit is where a process may be killed, in a test.
func Hit(string) {}

// Path is where a file of the host is; a test may put another in its place.
func Path(path string) string { return path }
