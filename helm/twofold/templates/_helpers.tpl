{{- define "twofold.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* The release's name, with the chart's unless it holds it. Short, so that suffixes fit. */}}
{{- define "twofold.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "twofold.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "twofold.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "twofold.operator" -}}
{{ include "twofold.fullname" . }}-operator
{{- end }}

{{- define "twofold.valkey" -}}
{{ include "twofold.fullname" . }}-valkey
{{- end }}

{{- define "twofold.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "twofold.operator" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Labels that never change: what selects pods. Takes (list context component). */}}
{{- define "twofold.selector" -}}
app.kubernetes.io/name: {{ include "twofold.name" (first .) }}
app.kubernetes.io/instance: {{ (first .).Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{- define "twofold.labels" -}}
{{ include "twofold.selector" . }}
app.kubernetes.io/version: {{ (first .).Chart.AppVersion | quote }}
app.kubernetes.io/part-of: twofold
app.kubernetes.io/managed-by: {{ (first .).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (first .).Chart.Name ((first .).Chart.Version | replace "+" "_") }}
{{- end }}

{{/* The whole name of an image. Takes (list context name). */}}
{{- define "twofold.image" -}}
{{- $images := (first .).Values.images -}}
{{- $name := last . -}}
{{- if not (regexMatch "[:@][^/]*$" $name) -}}
{{- $name = printf "%s:%s" $name (default (first .).Chart.AppVersion $images.tag) -}}
{{- end -}}
{{- with $images.registry }}{{ . }}/{{ end }}{{ $name }}
{{- end }}

{{- define "twofold.hasValkey" -}}
{{- $other := or .Values.redis.url .Values.redis.existingSecret.name -}}
{{- if and .Values.valkey.enabled (or .Values.valkey.keep (not $other)) }}yes{{ end }}
{{- end }}

{{- define "twofold.valkeySecret" -}}
{{- default (include "twofold.valkey" .) .Values.valkey.auth.existingSecret }}
{{- end }}

{{- define "twofold.valkeySecretKey" -}}
{{- if .Values.valkey.auth.existingSecret }}{{ .Values.valkey.auth.existingSecretKey }}{{ else }}password{{ end }}
{{- end }}

{{/* The namespaces that are watched, as a JSON list; none: all of them. */}}
{{- define "twofold.namespaces" -}}
{{- if .Values.watchAllNamespaces }}[]{{ else }}{{ default (list .Release.Namespace) .Values.watchNamespaces | uniq | sortAlpha | toJson }}{{ end }}
{{- end }}

{{- define "twofold.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "twofold.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where pods go. Takes the values of one component. */}}
{{- define "twofold.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "twofold.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What `helm test` calls its service: an LLMService's name has at most 40 characters. */}}
{{- define "twofold.test" -}}
{{ include "twofold.fullname" . | trunc 35 | trimSuffix "-" }}-test
{{- end }}

{{/* Where `helm test` puts its service: a namespace that is watched. */}}
{{- define "twofold.testNamespace" -}}
{{- $namespaces := include "twofold.namespaces" . | fromJsonArray -}}
{{- if or (not $namespaces) (has .Release.Namespace $namespaces) }}{{ .Release.Namespace }}{{ else }}{{ first $namespaces }}{{ end }}
{{- end }}
