package aws

import "strings"

type encryptionOutput struct {
	On bool `xml:"ebsEncryptionByDefault"`
}

func (c *call) getEncryptionByDefault(p *params) (any, *apiError) {
	if err := p.finish(); err != nil {
		return nil, err
	}
	c.e.mu.RLock()
	defer c.e.mu.RUnlock()
	return encryptionOutput{c.e.encDefault}, nil
}

func (c *call) enableEncryptionByDefault(p *params) (any, *apiError) {
	return c.setEncryption(p, true)
}

func (c *call) disableEncryptionByDefault(p *params) (any, *apiError) {
	return c.setEncryption(p, false)
}

func (c *call) setEncryption(p *params, on bool) (any, *apiError) {
	if err := p.finish(); err != nil {
		return nil, err
	}
	c.e.SetEncryptionByDefault(on)
	return encryptionOutput{on}, nil
}

type kmsKeyOutput struct {
	KMSKeyID string `xml:"kmsKeyId"`
}

func (c *call) getDefaultKMSKey(p *params) (any, *apiError) {
	if err := p.finish(); err != nil {
		return nil, err
	}
	c.e.mu.RLock()
	defer c.e.mu.RUnlock()
	return kmsKeyOutput{c.e.kmsDefault}, nil
}

type xmlRegion struct {
	Name     string `xml:"regionName"`
	Endpoint string `xml:"regionEndpoint"`
	OptIn    string `xml:"optInStatus"`
}

type regionsOutput struct {
	Set xmlSet[xmlRegion] `xml:"regionInfo"`
}

func (x xmlRegion) resource() resource {
	return resource{fields: map[string]string{"region-name": x.Name, "endpoint": x.Endpoint, "opt-in-status": x.OptIn}}
}

func (c *call) describeRegions(p *params) (any, *apiError) {
	names, fs := p.list("RegionName"), p.filters()
	p.boolean("AllRegions")
	if err := p.finish(); err != nil {
		return nil, err
	}
	if err := (xmlRegion{}).resource().check(fs); err != nil {
		return nil, err
	}
	region := c.e.opt.Region
	for _, n := range names {
		if n != region {
			return nil, ec2Fault("InvalidParameterValue", "Invalid region provided: %s", n)
		}
	}
	var out regionsOutput
	if x := (xmlRegion{region, "ec2." + region + ".amazonaws.com", "opt-in-not-required"}); x.resource().matches(fs) {
		out.Set.Items = append(out.Set.Items, x)
	}
	return out, nil
}

type xmlZone struct {
	Name   string `xml:"zoneName"`
	ID     string `xml:"zoneId"`
	State  string `xml:"zoneState"`
	Region string `xml:"regionName"`
	Type   string `xml:"zoneType"`
	OptIn  string `xml:"optInStatus"`
}

type zonesOutput struct {
	Set xmlSet[xmlZone] `xml:"availabilityZoneInfo"`
}

func (x xmlZone) resource() resource {
	return resource{fields: map[string]string{
		"zone-name": x.Name, "zone-id": x.ID, "state": x.State, "region-name": x.Region, "zone-type": x.Type, "opt-in-status": x.OptIn,
	}}
}

// zones are the emulator's three.
func (e *Emulator) zones() []xmlZone {
	var out []xmlZone
	short := strings.ReplaceAll(e.opt.Region, "-", "")
	for i, letter := range []string{"a", "b", "c"} {
		out = append(out, xmlZone{e.opt.Region + letter, short + "-az" + string(rune('1'+i)), "available", e.opt.Region, "availability-zone", "opt-in-not-required"})
	}
	return out
}

func (c *call) describeZones(p *params) (any, *apiError) {
	names, ids, fs := p.list("ZoneName"), p.list("ZoneId"), p.filters()
	p.boolean("AllAvailabilityZones")
	if err := p.finish(); err != nil {
		return nil, err
	}
	if err := (xmlZone{}).resource().check(fs); err != nil {
		return nil, err
	}
	known := map[string]xmlZone{}
	var out zonesOutput
	for _, z := range c.e.zones() {
		known[z.Name], known[z.ID] = z, z
		if len(names)+len(ids) == 0 && z.resource().matches(fs) {
			out.Set.Items = append(out.Set.Items, z)
		}
	}
	for _, n := range append(names, ids...) {
		z, ok := known[n]
		if !ok {
			return nil, ec2Fault("InvalidParameterValue", "Invalid availability zone: [%s]", n)
		}
		if z.resource().matches(fs) {
			out.Set.Items = append(out.Set.Items, z)
		}
	}
	return out, nil
}
