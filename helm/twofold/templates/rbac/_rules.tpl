{{/* What the operator asks of the API server where services are; exactly that. */}}
{{- define "twofold.rules" -}}
- apiGroups: [serving.twofold.dev]
  resources: [llmservices]
  verbs: [get, list, patch, watch]
- apiGroups: [serving.twofold.dev]
  resources: [loraadapters]
  verbs: [list, watch]
- apiGroups: [serving.twofold.dev]
  resources: [workerpools]
  verbs: [create, get, list, patch, watch]
- apiGroups: [serving.twofold.dev]
  resources: [llmservices/status, loraadapters/status, workerpools/status]
  verbs: [patch]
# So that its children may block a service's deletion.
- apiGroups: [serving.twofold.dev]
  resources: [llmservices/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [configmaps, secrets, services]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [ray.io]
  resources: [rayclusters]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors, scrapeconfigs, servicemonitors]
  verbs: [create, delete, get, list, patch, watch]
{{- end }}

{{/* What it asks for where it runs: the Lease of the one that acts. */}}
{{- define "twofold.ownRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create, get, update]
{{- end }}

{{- define "twofold.subjects" -}}
- kind: ServiceAccount
  name: {{ include "twofold.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
