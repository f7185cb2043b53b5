package scenario_test

// realTag names the vSphere tag that VMs must carry to be touched by the real
// world; see docs/field-test.md.
const realTag = "SNAPFERRY_REAL_TAG"
