{{/* The name of everything in the release's namespace. */}}
{{- define "operator.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* The name of what is elsewhere: releases of one name in several namespaces get along. */}}
{{- define "operator.name-elsewhere" -}}
{{ .Release.Namespace }}:{{ include "operator.name" . }}
{{- end }}

{{- define "operator.service-account" -}}
{{ .Values.serviceAccount.name | default (include "operator.name" .) }}
{{- end }}

{{- define "operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What the operator does in a namespace beside the objects of our own kinds. */}}
{{- define "operator.rules-watched" -}}
# list and watch: the Secrets of tokens by their label, and by name those that connections refer to,
# all as metadata only; get: one by name, when it has changed; the rest: the Secrets of tokens.
# RBAC knows neither labels nor metadata, so this grants every Secret of the namespace.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, delete]
# patch: an Event that repeats is counted.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
