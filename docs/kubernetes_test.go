package docs_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// manifest are the objects of docs/kubernetes/govxlan.yaml, read as strictly as an
// API server does it for 'kubectl apply --validate=strict'.
func manifest(t *testing.T) (objects []runtime.Object) {
	t.Helper()
	text, err := os.ReadFile("kubernetes/govxlan.yaml")
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, rbacv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	for buffer := make([]byte, len(text)); ; {
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		object, kind, err := strict.Decode(buffer[:n], nil, nil)
		if err != nil {
			t.Fatalf("%v: %v", kind, err)
		}
		objects = append(objects, object)
	}
}

// find returns the only object of a kind.
func find[T any](t *testing.T, objects []runtime.Object) (found T) {
	t.Helper()
	n := 0
	for _, o := range objects {
		if o, ok := o.(T); ok {
			found = o
			n++
		}
	}
	if n != 1 {
		t.Fatalf("there are %d of %T", n, found)
	}
	return found
}

// TestKubernetesManifest: each object is one that Kubernetes knows, with no field
// that it does not, and they fit together.
func TestKubernetesManifest(t *testing.T) {
	t.Parallel()
	objects := manifest(t)
	set := find[*appsv1.DaemonSet](t, objects)
	pod := set.Spec.Template.Spec
	namespace := find[*corev1.Namespace](t, objects).Name

	selector := labels.SelectorFromSet(set.Spec.Selector.MatchLabels)
	if selector.Empty() || !selector.Matches(labels.Set(set.Spec.Template.Labels)) {
		t.Errorf("the DaemonSet selects %v, and its pods are %v", selector, set.Spec.Template.Labels)
	}
	account := find[*corev1.ServiceAccount](t, objects)
	role, binding := find[*rbacv1.ClusterRole](t, objects), find[*rbacv1.ClusterRoleBinding](t, objects)
	if pod.ServiceAccountName != account.Name || binding.RoleRef.Name != role.Name || len(binding.Subjects) != 1 ||
		binding.Subjects[0] != (rbacv1.Subject{Kind: "ServiceAccount", Name: account.Name, Namespace: account.Namespace}) {
		t.Errorf("the account %s does not get its role: %+v", account.Name, binding)
	}
	for _, rule := range role.Rules {
		if !slices.Equal(rule.Verbs, []string{"get"}) || !slices.Equal(rule.Resources, []string{"nodes"}) {
			t.Errorf("the role may do more than it needs: %+v", rule)
		}
	}

	values := find[*corev1.ConfigMap](t, objects)
	for _, o := range []interface{ GetNamespace() string }{set, account, values} {
		if o.GetNamespace() != namespace {
			t.Errorf("%T is in namespace %q, and not in %q", o, o.GetNamespace(), namespace)
		}
	}
	volumes := make(map[string]bool)
	for _, v := range pod.Volumes {
		volumes[v.Name] = false
	}
	names := make(map[string]bool)
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if names[c.Name] || c.Image == "" || strings.HasSuffix(c.Image, ":latest") {
			t.Errorf("container %s of image %q", c.Name, c.Image)
		}
		names[c.Name] = true
		for _, m := range c.VolumeMounts {
			if _, ok := volumes[m.Name]; !ok {
				t.Errorf("container %s mounts %s, which there is none of", c.Name, m.Name)
			}
			volumes[m.Name] = true
		}
		variables := make(map[string]bool)
		for _, from := range c.EnvFrom {
			if from.ConfigMapRef == nil || from.ConfigMapRef.Name != values.Name {
				t.Errorf("container %s: environment from %+v", c.Name, from)
			}
			for key := range values.Data {
				variables[key] = true
			}
		}
		for _, e := range c.Env {
			variables[e.Name] = true
		}
		for _, arg := range c.Args {
			for _, part := range strings.Split(arg, "$(")[1:] {
				if name, _, ok := strings.Cut(part, ")"); !ok || !variables[name] {
					t.Errorf("container %s: %s has a variable that it does not know", c.Name, arg)
				}
			}
		}
		s := c.SecurityContext
		if s == nil || s.Privileged != nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
			s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("container %s may do too much: %+v", c.Name, s)
		}
	}
	for name, used := range volumes {
		if !used {
			t.Errorf("nobody mounts the volume %s", name)
		}
	}
}
