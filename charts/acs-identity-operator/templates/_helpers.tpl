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

{{/* What the operator does in a namespace that it watches. */}}
{{- define "operator.rules-watched" -}}
# Our kinds: watched; patch is for our finalizer, which is no subresource.
- apiGroups: [acs-identity.dev]
  resources: [acsconnections, acsidentities, acstokens]
  verbs: [list, watch, patch]
# Before a Secret goes because its identity is gone, the API server itself is asked.
- apiGroups: [acs-identity.dev]
  resources: [acsidentities]
  verbs: [get]
- apiGroups: [acs-identity.dev]
  resources: [acsconnections/status, acsidentities/status, acstokens/status]
  verbs: [update]
# list and watch: our own Secrets by label, and by name those that connections refer to, as metadata
# only; get: one by name, when it has changed. The rest is for the Secrets of tokens. RBAC knows
# neither labels nor metadata, so this grants all Secrets of the namespace.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, delete]
# patch: an Event that repeats is counted.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
