// Renders templates with Go's own text/template: reads {"data": …, "templates": [...]} from standard input and writes
// [{"text": …} or {"error": …}, ...] to standard output.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"text/template"
	"time"
)

type Message struct {
	Role, Content, Thinking string
	Images, ToolCalls       []any
	ToolName, ToolCallID    string
}

type result struct {
	Text  string `json:"text"`
	Error string `json:"error"`
}

var funcs = template.FuncMap{
	"json":          func(v any) string { b, _ := json.Marshal(v); return string(b) },
	"currentDate":   func(...string) string { return time.Now().Format("2006-01-02") },
	"yesterdayDate": func(...string) string { return time.Now().AddDate(0, 0, -1).Format("2006-01-02") },
}

// typed makes int of whole numbers and float64 of others, as the test's data has them.
func typed(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil && !strings.ContainsAny(v.String(), ".e") {
			return int(n)
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = typed(v[i])
		}
		return slices.Clip(v)
	case map[string]any:
		for key := range v {
			v[key] = typed(v[key])
		}
	}
	return value
}

func render(text string, data any) result {
	parsed, err := template.New("").Option("missingkey=zero").Funcs(funcs).Parse(text)
	if err != nil {
		return result{Error: err.Error()}
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, data); err != nil {
		return result{Error: err.Error()}
	}
	return result{Text: out.String()}
}

func main() {
	var input struct {
		Data      map[string]any `json:"data"`
		Messages  []Message      `json:"messages"`
		Templates []string       `json:"templates"`
	}
	decoder := json.NewDecoder(os.Stdin)
	decoder.UseNumber()
	if err := decoder.Decode(&input); err != nil {
		panic(err)
	}
	typed(input.Data)
	input.Data["Messages"] = slices.Clip(input.Messages)
	results := make([]result, len(input.Templates))
	for i, text := range input.Templates {
		results[i] = render(text, input.Data)
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		panic(err)
	}
}
