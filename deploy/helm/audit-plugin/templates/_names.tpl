{{- define "audit-plugin.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "audit-plugin.fullname" -}}
{{- $name := include "audit-plugin.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "audit-plugin.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "audit-plugin.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* What pods are selected by; it can never change. */}}
{{- define "audit-plugin.selector" -}}
app.kubernetes.io/name: {{ include "audit-plugin.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: auditor
{{- end }}

{{/* On every object; the component is the object's own. */}}
{{- define "audit-plugin.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "audit-plugin.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.extraLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "audit-plugin.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "audit-plugin.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $web := dict "web_port" (int .Values.web.port) }}
{{- if .Values.web.expose }}
{{- $web = merge $web (dict "web_host" "0.0.0.0" "tokens" (printf "/etc/audit-plugin-tokens/%s" .Values.web.tokensKey)) }}
{{- end }}
{{- $_ := set $config "serve" (merge $web (default dict $config.serve)) }}
{{- toYaml $config }}
{{- end }}
