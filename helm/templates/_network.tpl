{{/* IP families of Services; ports and peers of the NetworkPolicies. */}}

{{- define "eni-gateway.ipFamilies" -}}
{{- with .ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .ipFamilies }}
ipFamilies:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Port of a URL, or that of its scheme. */}}
{{- define "eni-gateway.urlPort" -}}
{{- $given := regexFind ":[0-9]+(/|$)" . | trimPrefix ":" | trimSuffix "/" -}}
{{- default (ternary "443" "80" (hasPrefix "https://" .)) $given }}
{{- end }}

{{/* Every port of the ledger's URL and of networkPolicy.redisPorts, as a JSON list; with sentinels, a cluster or a URL in a Secret, 6379 if none is set. */}}
{{- define "eni-gateway.redisPorts" -}}
{{- $url := (include "eni-gateway.config" . | fromJson).ledger.url -}}
{{- $ports := list -}}
{{- if .Values.redis.urlSecret.name -}}
{{- $ports = default (list 6379) .Values.networkPolicy.redisPorts -}}
{{- else if regexMatch "^rediss?(-sentinel|-cluster)?://" $url -}}
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

{{/* Rules for DNS and Redis. */}}
{{- define "eni-gateway.redisEgress" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - { protocol: UDP, port: {{ . }} }
    - { protocol: TCP, port: {{ . }} }
    {{- end }}
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

{{/* Rules for the credentials' sources and ENS. */}}
{{- define "eni-gateway.ensEgress" -}}
{{- if .Values.simulator.enabled -}}
- ports:
    - { protocol: TCP, port: 18080 }
  to:
    - podSelector:
        matchLabels:
          {{- include "eni-gateway.selectorLabels" (list . "simulator") | nindent 10 }}
{{- else }}
# ENS, and STS, which is always https.
- ports:
    {{- range list "443" (include "eni-gateway.urlPort" .Values.config.ens.endpoint) | uniq }}
    - { protocol: TCP, port: {{ . }} }
    {{- end }}
  to:
    {{- with .Values.networkPolicy.ens }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [100.100.100.200/32, 169.254.0.0/16]
    - ipBlock:
        cidr: ::/0
    {{- end }}
{{- end }}
{{- if eq .Values.credentials.mode "ecs-role" }}
# The metadata service, for the node's role.
- ports:
    - { protocol: TCP, port: 80 }
  to:
    - ipBlock:
        cidr: 100.100.100.200/32
{{- end }}
{{- end }}

{{/* Policy of a part of the simulator, which admits only the release's pods: (list context component port). */}}
{{- define "eni-gateway.simulatorPolicy" -}}
{{- $root := first . -}}
{{- $component := index . 1 -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "eni-gateway.metadata" (dict "root" $root "suffix" (printf "-%s" $component) "component" $component) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "eni-gateway.selectorLabels" (list $root $component) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        - { protocol: TCP, port: {{ last . }} }
      from:
        - podSelector:
            matchLabels:
              {{- include "eni-gateway.releaseLabels" $root | nindent 14 }}
{{- end }}
