{{/* Ports and peers of the NetworkPolicies. */}}

{{/* Port of a URL, or that of its scheme. */}}
{{- define "eni-gateway.urlPort" -}}
{{- $given := regexFind ":[0-9]+(/|$)" . | trimPrefix ":" | trimSuffix "/" -}}
{{- default (ternary "443" "80" (hasPrefix "https://" .)) $given }}
{{- end }}

{{/* Every port of the ledger's URL and of networkPolicy.redisPorts, as a JSON list; where nodes are found out, 6379 if none is set. */}}
{{- define "eni-gateway.redisPorts" -}}
{{- $url := (include "eni-gateway.config" . | fromJson).ledger.url -}}
{{- $ports := list -}}
{{- if regexMatch "^rediss?(-sentinel|-cluster)?://" $url -}}
{{- $standard := ternary 26379 6379 (contains "-sentinel://" $url) -}}
{{- range regexReplaceAll "^[a-z-]+://([^@/?]*@)?([^/?]*).*$" $url "${2}" | splitList "," -}}
{{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" -}}
{{- $ports = append $ports (ternary (int $port) $standard (ne $port "")) -}}
{{- end -}}
{{- $more := .Values.networkPolicy.redisPorts -}}
{{- if and (not $more) (regexMatch "-(sentinel|cluster)://" $url) -}}{{- $more = list 6379 -}}{{- end -}}
{{- range $more -}}{{- $ports = append $ports (int .) -}}{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson }}
{{- end }}

{{/* Rules for what every client of Redis needs: names, and Redis. */}}
{{- define "eni-gateway.redisEgress" -}}
- ports:
    - { protocol: UDP, port: 53 }
    - { protocol: TCP, port: 53 }
{{- with include "eni-gateway.redisPorts" . | fromJsonArray }}
- ports:
    {{- range . }}
    - { protocol: TCP, port: {{ . }} }
    {{- end }}
  {{- if $.Values.simulator.enabled }}
  to:
    - podSelector:
        matchLabels:
          {{- include "eni-gateway.selectorLabels" (list $ "redis") | nindent 10 }}
  {{- else if $.Values.networkPolicy.redis }}
  to:
    {{- toYaml $.Values.networkPolicy.redis | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
