{{- define "operator.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "operator.serviceAccount" -}}
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
{{- define "operator.namespaced-rules" -}}
- apiGroups: [acs-identity.dev]
  resources: [acsconnections, acsidentities, acstokens]
  # patch: the finalizer.
  verbs: [get, list, watch, patch]
- apiGroups: [acs-identity.dev]
  resources: [acsconnections/status, acsidentities/status, acstokens/status]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  # Credentials are read; the Secrets of tokens are written.
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
