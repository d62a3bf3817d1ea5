// What GitOps tools make of an object: kstatus, by which Flux and others wait, and a health check and
// actions in Argo CD's language, run by the interpreter that Argo CD runs.
//
//	gitops ARGOCD_CM [ACTION] < objects.json
//
// Reads a JSON list of objects and the customizations in the data of the ConfigMap ARGOCD_CM; prints a
// JSON list of what comes of each. With ACTION, the object as that action leaves it comes with it.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

type verdict struct {
	Kstatus string          `json:"kstatus"`
	Health  json.RawMessage `json:"health"`
	Actions json.RawMessage `json:"actions,omitempty"`
	Changed json.RawMessage `json:"changed,omitempty"`
}

type customization struct {
	Health string `json:"health.lua"`
}

type actions struct {
	Discovery   string `json:"discovery.lua"`
	Definitions []struct {
		Name   string `json:"name"`
		Action string `json:"action.lua"`
	} `json:"definitions"`
}

func main() {
	var objects []unstructured.Unstructured
	must(json.NewDecoder(os.Stdin).Decode(&objects))
	var settings struct {
		Data map[string]string `json:"data"`
	}
	file, err := os.ReadFile(os.Args[1])
	must(err)
	must(yaml.Unmarshal(file, &settings))
	var verdicts []verdict
	for _, object := range objects {
		verdicts = append(verdicts, judge(settings.Data, object))
	}
	must(json.NewEncoder(os.Stdout).Encode(verdicts))
}

func judge(settings map[string]string, object unstructured.Unstructured) verdict {
	computed, err := status.Compute(&object)
	must(err)
	group, kind := object.GroupVersionKind().Group, object.GetKind()

	// Argo CD takes wildcards in this key only.
	var customizations map[string]customization
	must(yaml.Unmarshal([]byte(settings["resource.customizations"]), &customizations))
	found := verdict{Kstatus: computed.Status.String()}
	found.Health = run(customizations[group+"/*"].Health, object)

	var offered actions
	must(yaml.UnmarshalStrict([]byte(settings["resource.customizations.actions."+group+"_"+kind]), &offered))
	if offered.Discovery != "" {
		found.Actions = run(offered.Discovery, object)
	}
	for _, action := range offered.Definitions {
		if len(os.Args) > 2 && action.Name == os.Args[2] {
			found.Changed = run(action.Action, object)
		}
	}
	return found
}

// run runs a script as Argo CD does: without libraries but for those that are safe, and a part of os.
func run(script string, object unstructured.Unstructured) json.RawMessage {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		must(state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)))
	}
	state.PreloadModule("os", func(state *lua.LState) int {
		lua.OpenOs(state)
		full := state.Get(-1).(*lua.LTable)
		part := state.NewTable()
		for _, name := range []string{"time", "date"} {
			state.SetField(part, name, state.GetField(full, name))
		}
		state.Push(part)
		return 1
	})
	bytes, err := object.MarshalJSON()
	must(err)
	value, err := luajson.Decode(state, bytes)
	must(err)
	state.SetGlobal("obj", value)
	must(state.DoString(script))
	answer, err := luajson.Encode(state.Get(-1))
	must(err)
	return answer
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gitops:", err)
		os.Exit(1)
	}
}
