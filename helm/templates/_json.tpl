{{/* JSON over HTTP: an Envoy beside each gateway, by helm/files/envoy.yaml. */}}

{{/* Envoy's configuration, with the chart's ports, paths and TLS. */}}
{{- define "eni-gateway.envoy" -}}
{{- $text := .Files.Get "files/envoy.yaml" -}}
{{- if not $text }}{{ fail "json.enabled is true, and the chart has no files/envoy.yaml: use the whole chart" }}{{ end -}}
{{- $envoy := fromYaml $text -}}
{{- $listener := first $envoy.static_resources.listeners -}}
{{- $_ := set $listener.address.socket_address "address" "::" -}}
{{- $_ := set $listener.address.socket_address "ipv4_compat" true -}}
{{- $_ := set $listener.address.socket_address "port_value" (int .Values.json.port) -}}
{{- $chain := first $listener.filter_chains -}}
{{- $manager := (first $chain.filters).typed_config -}}
{{- $_ := set (first $manager.http_filters).typed_config "proto_descriptor" "/etc/envoy/descriptors/eni-gateway.binpb" -}}
{{- $cluster := first $envoy.static_resources.clusters -}}
{{- $endpoint := (first (first $cluster.load_assignment.endpoints).lb_endpoints).endpoint.address.socket_address -}}
{{- $_ := set $endpoint "port_value" (include "eni-gateway.port" .Values.config.grpc.listen | int) -}}
{{- if .Values.tls.secretName }}
{{- $type := "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3" -}}
{{- $file := dict "filename" "/etc/envoy/tls/tls.crt" -}}
{{- $key := dict "filename" "/etc/envoy/tls/tls.key" -}}
{{- $watched := dict "path" "/etc/envoy/tls" -}}
{{- $certificate := dict "certificate_chain" $file "private_key" $key "watched_directory" $watched -}}
{{- $_ := set $chain "transport_socket" (dict "name" "envoy.transport_sockets.tls" "typed_config" (dict "@type" (printf "%s.DownstreamTlsContext" $type) "common_tls_context" (dict "alpn_protocols" (list "h2" "http/1.1") "tls_certificates" (list $certificate)))) -}}
{{- /* The peer is the gateway of the same pod, so its name need not be verified. */}}
{{- $_ := set $cluster "transport_socket" (dict "name" "envoy.transport_sockets.tls" "typed_config" (dict "@type" (printf "%s.UpstreamTlsContext" $type) "common_tls_context" (dict "alpn_protocols" (list "h2")))) -}}
{{- end }}
{{- toYaml $envoy }}
{{- end }}

{{/* Writes the descriptors; then Envoy, a sidecar that stops after the gateway. */}}
{{- define "eni-gateway.jsonContainers" -}}
- name: descriptors
  {{- include "eni-gateway.container" . | nindent 2 }}
  args: [descriptors, /etc/envoy/descriptors/eni-gateway.binpb]
  {{- include "eni-gateway.smallResources" . | nindent 2 }}
  volumeMounts:
    - name: descriptors
      mountPath: /etc/envoy/descriptors
- name: envoy
  image: {{ .Values.json.image | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  restartPolicy: Always
  command: [envoy]
  args: [-c, /etc/envoy/config/envoy.yaml, --disable-hot-restart, --log-level, warning]
  ports:
    - name: json
      containerPort: {{ .Values.json.port }}
  startupProbe:
    tcpSocket: { port: json }
    periodSeconds: 1
    failureThreshold: 60
  livenessProbe:
    tcpSocket: { port: json }
  resources:
    {{- toYaml .Values.json.resources | nindent 4 }}
  volumeMounts:
    - name: envoy
      mountPath: /etc/envoy/config
      readOnly: true
    - name: descriptors
      mountPath: /etc/envoy/descriptors
      readOnly: true
    {{- if .Values.tls.secretName }}
    - name: tls
      mountPath: /etc/envoy/tls
      readOnly: true
    {{- end }}
{{- end }}

{{- define "eni-gateway.jsonVolumes" -}}
- name: envoy
  configMap:
    name: {{ printf "%s-envoy" (include "eni-gateway.fullname" .) | quote }}
- name: descriptors
  emptyDir:
    sizeLimit: 4Mi
{{- end }}
