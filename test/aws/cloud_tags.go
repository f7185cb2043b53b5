package aws

import (
	"maps"
	"slices"
	"strings"
)

// metaOf finds a resource of the cloud by its ID, for the tag calls; the cloud
// is locked.
func (e *Emulator) metaOf(id string) (kind string, m *meta, err *apiError) {
	cl := e.cloud
	prefix := id[:max(strings.LastIndex(id, "-"), 0)]
	switch prefix {
	case "i":
		i, err := e.instance(id)
		if err != nil {
			return "", nil, err
		}
		return "instance", &i.meta, nil
	case "vol":
		v, err := e.volume(id)
		if err != nil {
			return "", nil, err
		}
		return "volume", &v.meta, nil
	case "ami":
		img, err := e.image(id)
		if err != nil {
			return "", nil, err
		}
		if img.gone {
			return "", nil, ec2Fault("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
		}
		return "image", &img.meta, nil
	case "vpc":
		kind, m = "vpc", metaIn(cl.vpcs, id, func(v *vpc) *meta { return &v.meta })
	case "subnet":
		kind, m = "subnet", metaIn(cl.subnets, id, func(s *subnet) *meta { return &s.meta })
	case "sg":
		kind, m = "security-group", metaIn(cl.groups, id, func(g *securityGroup) *meta { return &g.meta })
	case "eni":
		kind, m = "network-interface", metaIn(cl.interfaces, id, func(n *networkInterface) *meta { return &n.meta })
	case "lt":
		kind, m = "launch-template", metaIn(cl.templates, id, func(t *launchTemplate) *meta { return &t.meta })
	case "replacevol":
		kind, m = "replace-root-volume-task", metaIn(cl.rootTasks, id, func(t *rootTask) *meta { return &t.meta })
	case "import-ami":
		kind, m = "import-image-task", metaIn(cl.imports, id, func(t *importTask) *meta { return &t.meta })
	case "key":
		for _, k := range cl.keys {
			if k.id == id {
				kind, m = "key-pair", &k.meta
			}
		}
	default:
		return "", nil, ec2Fault("InvalidID", "The ID '%s' is not valid", id)
	}
	if m == nil || !e.visible(m) {
		return "", nil, ec2Fault(missingCode[prefix], "The ID '%s' does not exist", id)
	}
	return kind, m, nil
}

// missingCode are the codes for what is not there, by the prefix of the ID.
var missingCode = map[string]string{
	"vpc": "InvalidVpcID.NotFound", "subnet": "InvalidSubnetID.NotFound", "sg": "InvalidGroup.NotFound",
	"eni": "InvalidNetworkInterfaceID.NotFound", "lt": "InvalidLaunchTemplateId.NotFound", "key": "InvalidKeyPair.NotFound",
	"replacevol": "InvalidReplaceRootVolumeTaskId.NotFound", "import-ami": "InvalidConversionTaskId.Malformed",
}

func metaIn[R any](all map[string]R, id string, of func(R) *meta) *meta {
	if r, ok := all[id]; ok {
		return of(r)
	}
	return nil
}

// cloudIDs lists the resources of the cloud that requests can see and that can
// have tags.
func (e *Emulator) cloudIDs() []string {
	cl := e.cloud
	ids := slices.Concat(
		slices.Collect(maps.Keys(cl.instances)), slices.Collect(maps.Keys(cl.volumes)), slices.Collect(maps.Keys(cl.images)),
		slices.Collect(maps.Keys(cl.vpcs)), slices.Collect(maps.Keys(cl.subnets)), slices.Collect(maps.Keys(cl.groups)),
		slices.Collect(maps.Keys(cl.interfaces)), slices.Collect(maps.Keys(cl.templates)), slices.Collect(maps.Keys(cl.rootTasks)),
		slices.Collect(maps.Keys(cl.imports)))
	for _, k := range cl.keys {
		ids = append(ids, k.id)
	}
	return slices.DeleteFunc(ids, func(id string) bool {
		_, _, err := e.metaOf(id)
		return err != nil
	})
}

// sortBy sorts by a key.
func sortBy[T any](s []T, key func(T) string) {
	slices.SortFunc(s, func(a, b T) int { return strings.Compare(key(a), key(b)) })
}
