package aws

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

type launchTemplate struct {
	meta
	name     string
	byNow    int64 // the default version
	versions []templateVersion
}

// templateVersion keeps the data as parameters of RunInstances.
type templateVersion struct {
	data url.Values
	text string
	spec runSpec
}

// templateData takes LaunchTemplateData and checks it as far as EC2 does, which
// is not whether what it names exists.
func (p *params) templateData() (url.Values, runSpec) {
	data := url.Values{}
	for k, v := range p.values {
		if rest, ok := strings.CutPrefix(k, "LaunchTemplateData."); ok {
			p.taken[k] = true
			data[rest] = v
		}
	}
	inner := &params{values: data, taken: map[string]bool{}}
	spec := inner.runSpec()
	if err := inner.complete(); err != nil && p.err == nil {
		p.err = err
	}
	if len(data) == 0 {
		p.fail("MissingParameter", "The request must contain the parameter LaunchTemplateData")
	}
	return data, spec
}

type xmlTemplate struct {
	ID      string   `xml:"launchTemplateId"`
	Name    string   `xml:"launchTemplateName"`
	Created string   `xml:"createTime"`
	By      string   `xml:"createdBy"`
	Default int64    `xml:"defaultVersionNumber"`
	Latest  int64    `xml:"latestVersionNumber"`
	TagSet  *xmlTags `xml:"tagSet"`
}

func (x xmlTemplate) resource() resource {
	return resource{tags: tagsOf(x.TagSet), fields: map[string]string{"launch-template-name": x.Name, "create-time": x.Created}}
}

func (e *Emulator) describeTemplate(t *launchTemplate) xmlTemplate {
	return xmlTemplate{t.id, t.name, ec2Stamp(t.made), e.userARN(), t.byNow, int64(len(t.versions)), xmlTagSet(e.shownTags(&t.meta))}
}

type templateOutput struct {
	Template xmlTemplate `xml:"launchTemplate"`
}

func (c *call) createTemplate(p *params) (any, *apiError) {
	name, token, text := p.required("LaunchTemplateName"), p.str("ClientToken"), p.str("VersionDescription")
	tags := p.tagSpecifications("launch-template")
	data, spec := p.templateData()
	if err := p.complete(); err != nil {
		return nil, err
	}
	if err := c.mayTag(len(tags) > 0); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	if answer, err := c.repeated(token); err != nil || answer != nil {
		if err != nil {
			return nil, err
		}
		return answer(), nil
	}
	for _, t := range e.cloud.templates {
		if t.name == name {
			return nil, ec2Fault("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
		}
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	t := &launchTemplate{meta: c.newMeta("lt", tags), name: name, byNow: 1, versions: []templateVersion{{data, text, spec}}}
	e.cloud.templates[t.id] = t
	answer := func() any { return templateOutput{e.describeTemplate(t)} }
	c.remember(token, answer)
	return answer(), nil
}

// findTemplate finds a template by ID or name.
func (e *Emulator) findTemplate(id, name string) (*launchTemplate, *apiError) {
	switch {
	case id != "" && name != "":
		return nil, ec2Fault("InvalidParameterCombination", "The parameters LaunchTemplateId and LaunchTemplateName cannot both be specified.")
	case id == "" && name == "":
		return nil, ec2Fault("MissingParameter", "The request must contain the parameter LaunchTemplateId or LaunchTemplateName")
	}
	for _, t := range e.cloud.templates {
		if (t.id == id || t.name == name) && e.visible(&t.meta) {
			return t, nil
		}
	}
	if id != "" {
		return nil, ec2Fault("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", id)
	}
	return nil, ec2Fault("InvalidLaunchTemplateName.NotFoundException", "The specified launch template, with template name %s, does not exist.", name)
}

// number resolves a version: a number, $Latest or $Default.
func (t *launchTemplate) number(version string) (int, *apiError) {
	switch version {
	case "", "$Default":
		return int(t.byNow), nil
	case "$Latest":
		return len(t.versions), nil
	}
	n, err := strconv.Atoi(version)
	if err != nil || n < 1 || n > len(t.versions) {
		return 0, ec2Fault("InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version %s for the launch template with ID %s.", version, t.id)
	}
	return n, nil
}

func (e *Emulator) templateSpec(id, name, version string) (runSpec, *apiError) {
	t, err := e.findTemplate(id, name)
	if err != nil {
		return runSpec{}, err
	}
	n, err := t.number(version)
	if err != nil {
		return runSpec{}, err
	}
	return t.versions[n-1].spec, nil
}

func (c *call) describeTemplates(p *params) (any, *apiError) {
	ids, names, fs, g := p.list("LaunchTemplateId"), p.list("LaunchTemplateName"), p.filters(), p.paging(1, 200)
	p.boolean("IncludeManagedResources")
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	for _, n := range names {
		t, err := e.findTemplate("", n)
		if err != nil {
			return nil, err
		}
		ids = append(ids, t.id)
	}
	items, err := shown(e, e.cloud.templates, func(t *launchTemplate) *meta { return &t.meta }, ids, func(id string) *apiError {
		return ec2Fault("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", id)
	}, e.describeTemplate)
	if err != nil {
		return nil, err
	}
	items, next, err := pageOf(c, items, fs, g)
	return struct {
		Set  xmlSet[xmlTemplate] `xml:"launchTemplates"`
		Next *string             `xml:"nextToken,omitempty"`
	}{xmlSet[xmlTemplate]{items}, next}, err
}

// xmlTemplateData are the parts of a template's data that are shown.
type xmlTemplateData struct {
	Image    string              `xml:"imageId,omitempty"`
	Type     string              `xml:"instanceType,omitempty"`
	Key      string              `xml:"keyName,omitempty"`
	UserData string              `xml:"userData,omitempty"`
	Groups   *xmlSet[string]     `xml:"securityGroupIdSet,omitempty"`
	Mappings *xmlSet[xmlMapping] `xml:"blockDeviceMappingSet,omitempty"`
}

type xmlTemplateVersion struct {
	ID      string          `xml:"launchTemplateId"`
	Name    string          `xml:"launchTemplateName"`
	Number  int64           `xml:"versionNumber"`
	Text    string          `xml:"versionDescription,omitempty"`
	Created string          `xml:"createTime"`
	By      string          `xml:"createdBy"`
	Default bool            `xml:"defaultVersion"`
	Data    xmlTemplateData `xml:"launchTemplateData"`
}

func (x xmlTemplateVersion) resource() resource {
	return resource{fields: map[string]string{"is-default-version": strconv.FormatBool(x.Default), "image-id": x.Data.Image, "instance-type": x.Data.Type}}
}

func (e *Emulator) describeVersion(t *launchTemplate, n int) xmlTemplateVersion {
	v := t.versions[n-1]
	x := xmlTemplateVersion{t.id, t.name, int64(n), v.text, ec2Stamp(t.made), e.userARN(), int64(n) == t.byNow,
		xmlTemplateData{Image: v.spec.image, Type: v.spec.kind, Key: v.spec.key, UserData: v.spec.userData}}
	if len(v.spec.groupIDs) > 0 {
		x.Data.Groups = &xmlSet[string]{v.spec.groupIDs}
	}
	if len(v.spec.mappings) > 0 {
		set := e.describeMappings(&machineImage{mappings: v.spec.mappings})
		x.Data.Mappings = &set
	}
	return x
}

func (c *call) describeTemplateVersions(p *params) (any, *apiError) {
	id, name, versions, fs, g := p.str("LaunchTemplateId"), p.str("LaunchTemplateName"), p.list("LaunchTemplateVersion"), p.filters(), p.paging(1, 200)
	p.boolean("ResolveAlias")
	p.boolean("IncludeManagedResources")
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	t, err := e.findTemplate(id, name)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		for n := len(t.versions); n > 0; n-- {
			versions = append(versions, fmt.Sprint(n))
		}
	}
	var items []xmlTemplateVersion
	for _, v := range versions {
		n, err := t.number(v)
		if err != nil {
			return nil, err
		}
		items = append(items, e.describeVersion(t, n))
	}
	items, next, err := pageOf(c, items, fs, g)
	return struct {
		Set  xmlSet[xmlTemplateVersion] `xml:"launchTemplateVersionSet"`
		Next *string                    `xml:"nextToken,omitempty"`
	}{xmlSet[xmlTemplateVersion]{items}, next}, err
}

// AddLaunchTemplate sets up a launch template whose versions are given as the
// parameters of RunInstances in the Query protocol ("InstanceType",
// "BlockDeviceMapping.1.Ebs.VolumeSize"). The first version is the default.
func (e *Emulator) AddLaunchTemplate(name string, versions ...map[string]string) (id string, err error) {
	t := &launchTemplate{meta: e.setUp("lt"), name: name, byNow: 1}
	for _, v := range versions {
		data := url.Values{}
		for k, s := range v {
			data.Set(k, s)
		}
		p := &params{values: data, taken: map[string]bool{}}
		spec := p.runSpec()
		if fault := p.complete(); fault != nil {
			return "", fmt.Errorf("add launch template %s: %s: %s", name, fault.code, fault.message)
		}
		t.versions = append(t.versions, templateVersion{data: data, spec: spec})
	}
	if len(t.versions) == 0 {
		return "", fmt.Errorf("add launch template %s: no versions", name)
	}
	defer e.lockCloud()()
	if slices.ContainsFunc(slices.Collect(maps.Values(e.cloud.templates)), func(o *launchTemplate) bool { return o.name == name }) {
		return "", fmt.Errorf("add launch template %s: the name is taken", name)
	}
	e.cloud.templates[t.id] = t
	return t.id, nil
}
