{{/* The name of everything in the release's namespace. */}}
{{- define "operator.name" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name }}{{ .Release.Name }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The name of roles outside the release's namespace: releases of one name in several namespaces get along. */}}
{{- define "operator.name-elsewhere" -}}
{{ .Release.Namespace }}:{{ include "operator.name" . }}
{{- end }}

{{- define "operator.service-account" -}}
{{ .Values.serviceAccount.name | default (include "operator.name" .) }}
{{- end }}

{{/* The user name of the operator's account. */}}
{{- define "operator.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "operator.service-account" . }}
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

{{/* The image; the registry is the part before the first slash, if it looks like a host. */}}
{{- define "operator.image" -}}
{{- $image := .Values.image }}
{{- if not $image.repository }}
{{- fail "image.repository is not set, and no image is published yet: build one with `make image`, push it to a registry that the cluster pulls from, and add --set image.repository=REGISTRY/acs-identity-operator" }}
{{- end }}
{{- $repository := $image.repository }}
{{- with .Values.global.imageRegistry }}
{{- $path := regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" $repository "" }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $path }}
{{- end }}
{{- if $image.digest }}{{ $repository }}@{{ $image.digest }}
{{- else }}{{ $repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* The pod's security context; OpenShift chooses users and groups itself. */}}
{{- define "operator.pod-security-context" -}}
{{- $adapt := .Values.openshift.adaptSecurityContext }}
{{- $isOpenShift := .Capabilities.APIVersions.Has "security.openshift.io/v1" }}
{{- if or (eq $adapt "force") (and (eq $adapt "auto") $isOpenShift) }}
{{- toYaml (omit .Values.podSecurityContext "runAsUser" "runAsGroup" "fsGroup") }}
{{- else }}
{{- toYaml .Values.podSecurityContext }}
{{- end }}
{{- end }}

{{/* Rules for a watched namespace, besides those for our own kinds. */}}
{{- define "operator.rules-watched" -}}
# list and watch: Secrets of tokens by label, and Secrets of connections by name, both as metadata
# only; get: one Secret by name, when it has changed; create, update, delete: Secrets of tokens.
# RBAC knows neither labels nor metadata, so this grants access to every Secret of the namespace.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, delete]
# patch: counts an Event that repeats.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.consumers.rolloutRestart }}
# A workload is read and restarted by name, when an AcsToken of its namespace says so.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [get, patch]
{{- end }}
{{- if .Values.consumers.nudge }}
# After a revocation: which pods mount the Secret, and an annotation of those.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, patch]
{{- end }}
{{- if .Values.consumers.count }}
# Which pods use the Secrets, and when their containers started.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end }}
{{- end }}
