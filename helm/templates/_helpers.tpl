{{/* Names, labels and the image. Names are quoted: they may look like numbers. */}}

{{- define "eni-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 48 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for the longest suffix, `-ledger-init`, within 63 characters. */}}
{{- define "eni-gateway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else if contains (include "eni-gateway.name" .) .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "eni-gateway.name" .) | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "eni-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "eni-gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "eni-gateway.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Selector of the release's pods. */}}
{{- define "eni-gateway.releaseLabels" -}}
app.kubernetes.io/name: {{ include "eni-gateway.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Selector of the pods of one component: (list context component). */}}
{{- define "eni-gateway.selectorLabels" -}}
{{- include "eni-gateway.releaseLabels" (first .) }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{/* Name, labels and annotations of an object: (dict "root" context "component" … "suffix" … "labels" … "annotations" …). */}}
{{- define "eni-gateway.metadata" -}}
{{- $root := .root -}}
name: {{ default (printf "%s%s" (include "eni-gateway.fullname" $root) (default "" .suffix)) .name | quote }}
namespace: {{ default $root.Release.Namespace .namespace | quote }}
labels:
  {{- include "eni-gateway.selectorLabels" (list $root (default "gateway" .component)) | nindent 2 }}
  app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ $root.Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
  {{- with merge (dict) (default (dict) .labels) $root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Protocol of the grpc port, as appProtocol. */}}
{{- define "eni-gateway.grpcProtocol" -}}
{{- ternary "https" "kubernetes.io/h2c" (not (empty (or .Values.tls.secretName .Values.config.grpc.tls_cert_file))) }}
{{- end }}
