{{/* What the Restricted level of Pod Security asks of a pod. */}}
{{- define "audit-plugin.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* And of a container; as a sidecar it has to say all of it itself. */}}
{{- define "audit-plugin.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "audit-plugin.resources" -}}
{{- $resources := deepCopy .Values.resources }}
{{- if .Values.gpu.resource }}
{{- $limits := merge (dict .Values.gpu.resource .Values.gpu.count) (default dict $resources.limits) }}
{{- $_ := set $resources "limits" $limits }}
{{- end }}
{{- if or .Values.gpu.claim .Values.gpu.claimTemplate }}
{{- $_ := set $resources "claims" (list (dict "name" "gpu")) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/* Container without name, command and probes. */}}
{{- define "audit-plugin.container" -}}
image: {{ include "audit-plugin.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "audit-plugin.containerSecurity" . | nindent 2 }}
resources:
  {{- include "audit-plugin.resources" . | nindent 2 }}
{{- with .Values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
- name: audit-config
  mountPath: /etc/audit-plugin
  readOnly: true
- name: audit-state
  mountPath: /var/lib/audit-plugin
- name: audit-tmp
  mountPath: /tmp
{{- if .Values.data.existingClaim }}
- name: audit-data
  mountPath: /data
  readOnly: true
{{- end }}
{{- if .Values.web.expose }}
- name: audit-tokens
  mountPath: /etc/audit-plugin-tokens
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "audit-plugin.volumes" -}}
- name: audit-config
  configMap:
    name: {{ include "audit-plugin.fullname" . }}
    {{- if eq .Values.mode "sidecar" }}
    # Without it the auditor fails; the model's pod starts all the same.
    optional: true
    {{- end }}
- name: audit-state
{{- if and .Values.persistence.enabled (or .Values.persistence.existingClaim (ne .Values.mode "sidecar")) }}
  persistentVolumeClaim:
    claimName: {{ default (include "audit-plugin.fullname" .) .Values.persistence.existingClaim }}
{{- else }}
  emptyDir: {}
{{- end }}
- name: audit-tmp
  emptyDir: {}
{{- if .Values.data.existingClaim }}
- name: audit-data
  persistentVolumeClaim:
    claimName: {{ .Values.data.existingClaim }}
    readOnly: true
{{- end }}
{{- if .Values.web.expose }}
- name: audit-tokens
  secret:
    secretName: {{ .Values.web.tokensSecret }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "audit-plugin.claims" -}}
{{- with .Values.gpu.claim }}
- name: gpu
  resourceClaimName: {{ . }}
{{- end }}
{{- with .Values.gpu.claimTemplate }}
- name: gpu
  resourceClaimTemplateName: {{ . }}
{{- end }}
{{- end }}

{{/* Everything of a pod but its containers and restart policy. */}}
{{- define "audit-plugin.pod" -}}
serviceAccountName: {{ include "audit-plugin.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
securityContext:
  {{- include "audit-plugin.podSecurity" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "audit-plugin.claims" . | trim }}
resourceClaims:
  {{- . | nindent 2 }}
{{- end }}
volumes:
  {{- include "audit-plugin.volumes" . | nindent 2 }}
{{- end }}

{{- define "audit-plugin.podMetadata" -}}
labels:
  {{- include "audit-plugin.labels" . | nindent 2 }}
  app.kubernetes.io/component: auditor
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  # A new configuration is a new pod: the service reads it once.
  checksum/config: {{ include "audit-plugin.config" . | sha256sum }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "audit-plugin.ports" -}}
- name: http-metrics
  containerPort: {{ .Values.config.serve.port }}
  protocol: TCP
{{- if .Values.web.expose }}
- name: http-web
  containerPort: {{ .Values.web.port }}
  protocol: TCP
{{- end }}
{{- end }}

{{/* Probes never ask Triton, whose outage must not restart us. */}}
{{- define "audit-plugin.liveness" -}}
livenessProbe:
  httpGet: {path: /livez, port: http-metrics}
  periodSeconds: 30
  timeoutSeconds: 5
{{- end }}

{{- define "audit-plugin.startup" -}}
startupProbe:
  httpGet: {path: /livez, port: http-metrics}
  periodSeconds: 5
  failureThreshold: 60
{{- end }}

{{- define "audit-plugin.readiness" -}}
readinessProbe:
  httpGet: {path: /readyz, port: http-metrics}
  periodSeconds: 30
  timeoutSeconds: 5
{{- end }}

{{/*
A native sidecar: starts before the model's container, stops after it, does not keep jobs from ending.  It has no startup probe, since the
model's container would wait for it to succeed.
*/}}
{{- define "audit-plugin.sidecar" -}}
name: {{ .Values.sidecar.name }}
restartPolicy: Always
args: [serve, /etc/audit-plugin/audit.yaml]
{{ include "audit-plugin.container" . }}
ports:
{{ include "audit-plugin.ports" . }}
{{ include "audit-plugin.liveness" . }}
  initialDelaySeconds: 120
{{- if .Values.sidecar.readinessProbe }}
{{ include "audit-plugin.readiness" . }}
{{- end }}
{{- end }}
