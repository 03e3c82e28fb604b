{{/* Parts that the gateway's pods and the jobs' pods share. */}}

{{/* Pod settings without any right in the cluster: (list context serviceAccountName). */}}
{{- define "eni-gateway.podSpec" -}}
{{- $root := first . -}}
serviceAccountName: {{ last . | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $root.Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with $root.Values.schedulerName }}
schedulerName: {{ . | quote }}
{{- end }}
{{- with $root.Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with $root.Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "eni-gateway.container" -}}
image: {{ include "eni-gateway.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end }}

{{/* Small resources, for jobs. */}}
{{- define "eni-gateway.smallResources" -}}
resources:
  requests:
    cpu: 50m
    memory: 32Mi
  limits:
    memory: 128Mi
{{- end }}

{{- define "eni-gateway.credentialsEnv" -}}
{{- $mode := .Values.credentials.mode -}}
{{- if .Values.simulator.enabled }}
- name: ALIBABA_CLOUD_ACCESS_KEY_ID
  value: simulator-access-key-id
- name: ALIBABA_CLOUD_ACCESS_KEY_SECRET
  value: simulator-access-key-secret
{{- end }}
{{- if eq $mode "secret" }}
{{- with .Values.credentials.secret }}
- name: ALIBABA_CLOUD_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ .name | quote }}
      key: {{ .accessKeyIdKey | quote }}
- name: ALIBABA_CLOUD_ACCESS_KEY_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ .name | quote }}
      key: {{ .accessKeySecretKey | quote }}
{{- if .securityTokenKey }}
- name: ALIBABA_CLOUD_SECURITY_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .name | quote }}
      key: {{ .securityTokenKey | quote }}
{{- end }}
{{- if .externalIdKey }}
- name: ALIBABA_CLOUD_EXTERNAL_ID
  valueFrom:
    secretKeyRef:
      name: {{ .name | quote }}
      key: {{ .externalIdKey | quote }}
{{- end }}
{{- end }}
{{- with .Values.credentials.assumeRole }}
{{- if .roleArn }}
- name: ALIBABA_CLOUD_ROLE_ARN
  value: {{ .roleArn | quote }}
{{- end }}
{{- if .sessionName }}
- name: ALIBABA_CLOUD_ROLE_SESSION_NAME
  value: {{ .sessionName | quote }}
{{- end }}
{{- if .policy }}
- name: ALIBABA_CLOUD_ROLE_POLICY
  value: {{ .policy | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.credentials.rrsa }}
{{- if eq $mode "rrsa-token" }}
- name: ALIBABA_CLOUD_ROLE_ARN
  value: {{ .roleArn | quote }}
- name: ALIBABA_CLOUD_OIDC_PROVIDER_ARN
  value: {{ .oidcProviderArn | quote }}
- name: ALIBABA_CLOUD_OIDC_TOKEN_FILE
  value: /var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token
{{- end }}
{{- if .sessionName }}
- name: ALIBABA_CLOUD_ROLE_SESSION_NAME
  value: {{ .sessionName | quote }}
{{- end }}
{{- if .stsRegion }}
- name: ALIBABA_CLOUD_STS_REGION
  value: {{ .stsRegion | quote }}
- name: ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED
  value: {{ .stsVpc | quote }}
{{- end }}
{{- end }}
{{- if eq $mode "ecs-role" }}
{{- with .Values.credentials.ecsRole.name }}
- name: ALIBABA_CLOUD_ECS_METADATA
  value: {{ . | quote }}
{{- end }}
{{- else if ne $mode "external" }}
- name: ALIBABA_CLOUD_ECS_METADATA_DISABLED
  value: "true"
{{- end }}
{{- end }}

{{/* The ledger's URL, where it is in a Secret. */}}
{{- define "eni-gateway.ledgerEnv" -}}
{{- with .Values.redis.urlSecret }}
{{- if .name }}
- name: ENI_GATEWAY_LEDGER__URL
  valueFrom:
    secretKeyRef:
      name: {{ .name | quote }}
      key: {{ .key | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The gateway's environment. It repeats the addresses, because the image sets them and the environment overrides the file. */}}
{{- define "eni-gateway.env" -}}
- name: ENI_GATEWAY_GRPC__LISTEN
  value: {{ .Values.config.grpc.listen | quote }}
- name: ENI_GATEWAY_ADMIN__LISTEN
  value: {{ .Values.config.admin.listen | quote }}
{{- include "eni-gateway.ledgerEnv" . }}
{{- include "eni-gateway.credentialsEnv" . }}
{{- end }}

{{- define "eni-gateway.tracingEnv" -}}
{{- if .endpoint -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_SERVICE_NAME
  value: eni-gateway
- name: OTEL_RESOURCE_ATTRIBUTES
  value: service.instance.id=$(POD_NAME),k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE),k8s.node.name=$(NODE_NAME)
- name: OTEL_TRACES_SAMPLER
  value: {{ .sampler | quote }}
{{- if .samplerArg }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .samplerArg | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Mounts and volumes of the configuration and the Secrets that Redis needs. */}}
{{- define "eni-gateway.redisMounts" -}}
{{- $secrets := include "eni-gateway.secretsDir" . -}}
- name: config
  mountPath: /etc/eni-gateway/config
  readOnly: true
{{- if .Values.redis.passwordSecret.name }}
- name: redis-password
  mountPath: {{ $secrets }}/redis-password
  readOnly: true
{{- end }}
{{- if .Values.redis.caSecret.name }}
- name: redis-ca
  mountPath: {{ $secrets }}/redis-ca
  readOnly: true
{{- end }}
{{- if .Values.redis.clientCertSecretName }}
- name: redis-client
  mountPath: {{ $secrets }}/redis-client
  readOnly: true
{{- end }}
{{- end }}

{{- define "eni-gateway.redisVolumes" -}}
{{- with .Values.redis.passwordSecret.name }}
- name: redis-password
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- with .Values.redis.caSecret.name }}
- name: redis-ca
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- with .Values.redis.clientCertSecretName }}
- name: redis-client
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{/* Mounts and volumes of the configuration and all Secrets. */}}
{{- define "eni-gateway.mounts" -}}
{{- $secrets := include "eni-gateway.secretsDir" . -}}
{{- include "eni-gateway.redisMounts" . }}
{{- if .Values.tls.secretName }}
- name: tls
  mountPath: {{ $secrets }}/tls
  readOnly: true
{{- end }}
{{- if .Values.tls.clientCaSecretName }}
- name: client-ca
  mountPath: {{ $secrets }}/client-ca
  readOnly: true
{{- end }}
- name: logging
  mountPath: {{ include "eni-gateway.loggingDir" . }}
  readOnly: true
{{- if .Values.identity.policy }}
- name: policy
  mountPath: {{ include "eni-gateway.policyDir" . }}
  readOnly: true
{{- end }}
{{- if .Values.identity.mountToken }}
- name: kubernetes
  mountPath: /var/run/secrets/eni-gateway/kubernetes
  readOnly: true
{{- end }}
{{- if eq .Values.credentials.mode "rrsa-token" }}
- name: rrsa-token
  mountPath: /var/run/secrets/ack.alibabacloud.com/rrsa-tokens
  readOnly: true
{{- end }}
{{- end }}

{{- define "eni-gateway.volumes" -}}
- name: config
  configMap:
    name: {{ include "eni-gateway.fullname" . | quote }}
{{- include "eni-gateway.redisVolumes" . }}
{{- with .Values.tls.secretName }}
- name: tls
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- with .Values.tls.clientCaSecretName }}
- name: client-ca
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
- name: logging
  configMap:
    name: {{ include "eni-gateway.fullname" . }}-logging
{{- if .Values.identity.policy }}
- name: policy
  configMap:
    name: {{ include "eni-gateway.fullname" . }}-policy
{{- end }}
{{- if .Values.identity.mountToken }}
- name: kubernetes
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
{{- end }}
{{- if eq .Values.credentials.mode "rrsa-token" }}
- name: rrsa-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          audience: sts.aliyuncs.com
          expirationSeconds: {{ .Values.credentials.rrsa.tokenExpirationSeconds }}
          path: token
{{- end }}
{{- end }}
