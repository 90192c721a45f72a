{{- define "twofold.operatorArguments" -}}
{{- range include "twofold.namespaces" . | fromJsonArray }}
- --namespace={{ . }}
{{- end }}
- --own-namespace={{ .Release.Namespace }}
- --lease-name={{ include "twofold.operator" . }}
- --router-image={{ include "twofold.image" (list . .Values.images.router) }}
- --worker-image={{ include "twofold.image" (list . .Values.images.worker) }}
- --sim-image={{ include "twofold.image" (list . .Values.images.sim) }}
{{- range .Values.images.pullSecrets }}
- --image-pull-secret={{ . }}
{{- end }}
{{- if not .Values.services.networkPolicies }}
- --no-network-policies
{{- end }}
{{- range .Values.networkPolicy.scrapingNamespaces }}
- --scraping-namespace={{ . }}
{{- end }}
- --metrics-port=8080
- --log-level={{ .Values.operator.logLevel }}
{{- with .Values.operator.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
The membership's URL; a password never stands in an argument. Valkey's is given to the operator as
it is, which encodes it for the URL: a template cannot, of a Secret that it does not read.
*/}}
{{- define "twofold.redisEnvironment" -}}
{{- if .Values.redis.existingSecret.name -}}
- name: TWOFOLD_REDIS_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.redis.existingSecret.name }}, key: {{ .Values.redis.existingSecret.key }}}
{{- else if .Values.redis.url -}}
- name: TWOFOLD_REDIS_URL
  value: {{ .Values.redis.url | quote }}
{{- else if include "twofold.hasValkey" . -}}
- name: TWOFOLD_REDIS_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ include "twofold.valkeySecret" . }}, key: {{ include "twofold.valkeySecretKey" . }}}
- name: TWOFOLD_REDIS_URL
  value: redis://{{ include "twofold.valkey" . }}.{{ .Release.Namespace }}.svc:{{ .Values.valkey.port }}/0
{{- else -}}
{{- fail "no Redis: set redis.url or redis.existingSecret.name, or leave valkey.enabled" }}
{{- end }}
{{- end }}
