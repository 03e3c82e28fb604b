{{/* What values must be together. Everything that is wrong is said at once; single values are the schema's, where it finds words for them. */}}

{{- define "eni-gateway.faults" -}}
{{- $v := deepCopy .Values -}}

{{- /* What null has taken away is filled up again, so that the rest can be looked at. */}}
{{- $sections := list
  "commonLabels" "commonAnnotations" "image" "config" "config.grpc" "config.admin" "config.ledger" "config.ens" "config.limit"
  "config.tracker" "config.watch" "credentials" "credentials.rrsa" "credentials.secret" "credentials.ecsRole" "tls" "redis"
  "redis.passwordSecret" "redis.caSecret" "ledgerInit" "ledgerInit.podLabels" "ledgerInit.podAnnotations" "tracing" "logging"
  "service" "serviceAccount" "serviceAccount.annotations" "podLabels" "podAnnotations" "podDisruptionBudget" "autoscaling"
  "networkPolicy" "metrics" "metrics.serviceMonitor" "metrics.prometheusRule" "metrics.dashboard" "tests" "simulator"
  "simulator.redis" }}
{{- $needed := list
  "image.repository" "config.grpc.listen" "config.grpc.drain_delay" "config.grpc.drain_timeout" "config.admin.listen"
  "config.ens.endpoint" }}
{{- $gone := list }}
{{- $null := list }}
{{- range $path := concat $sections $needed }}
{{- $names := splitList "." $path }}
{{- $at := $v }}
{{- range initial $names }}{{ $at = get $at . }}{{ end }}
{{- if kindIs "invalid" (index $at (last $names)) }}
{{- $_ := set $at (last $names) (ternary (dict) "" (has $path $sections)) }}
{{- if not (has (initial $names | join ".") $gone) }}{{ $null = append $null $path }}{{ end }}
{{- $gone = append $gone $path }}
{{- end }}
{{- end }}
{{- with $null }}
- {{ join ", " . }}: null takes the defaults away; remove the null
{{- end }}

{{- $url := default "" $v.config.ledger.url }}
{{- $mode := default "" $v.credentials.mode }}
{{- $memory := hasPrefix "memory://" $url }}

{{- if $v.simulator.enabled }}
{{- if $url }}
- config.ledger.url is set, and simulator.enabled brings its own Redis: unset one of them
{{- end }}
{{- if $mode }}
- credentials.mode is set, and simulator.enabled brings its own key: unset one of them
{{- end }}
{{- if $v.ledgerInit.enabled }}
- ledgerInit.enabled: the simulator's Redis is not there yet when it would run; set it to false
{{- end }}
{{- else }}
{{- if not $url }}
- config.ledger.url is not set, and has no default: give your Redis, such as redis://redis:6379/0, or try it without: -f values-simulator.yaml
{{- end }}
{{- if not $mode }}
- credentials.mode is not set, and has no default: one of rrsa-webhook, rrsa-token, secret, ecs-role, external
{{- end }}
{{- end }}

{{- if $memory }}
{{- if or (gt (int $v.replicaCount) 1) $v.autoscaling.enabled }}
- config.ledger.url is memory://, which each replica keeps for itself: nothing would keep the limit over several; set replicaCount to 1 and autoscaling.enabled to false, or use a Redis
{{- end }}
{{- if or $v.redis.passwordSecret.name $v.redis.caSecret.name $v.redis.clientCertSecretName }}
- config.ledger.url is memory://, which has no use for what stands under redis: unset it
{{- end }}
{{- end }}
{{- /* It is not repeated: a wrong one may hold a password anywhere. */}}
{{- if and $url (not (regexMatch "^(memory://$|unix:///.|rediss?(-cluster)?://.|rediss?-sentinel://.+[?&]master=.)" $url)) }}
- config.ledger.url is none of memory://, unix:///path, redis[s]://host:port/db, redis[s]-sentinel://host,host/db?master=NAME, redis[s]-cluster://host,host: correct it
{{- end }}
{{- if regexMatch "://[^/?]*:[^/?]*@" $url }}
- config.ledger.url holds a password, which would be readable in a ConfigMap: put it into a Secret and name that in redis.passwordSecret.name
{{- end }}
{{- if and (or $v.redis.caSecret.name $v.redis.clientCertSecretName) (not (hasPrefix "rediss" $url)) }}
- redis.caSecret.name or redis.clientCertSecretName is set, and config.ledger.url does not use TLS: write rediss://, rediss-sentinel:// or rediss-cluster://
{{- end }}

{{- range $secret, $settings := dict "tls.secretName" (list $v.tls.secretName $v.config.grpc.tls_cert_file $v.config.grpc.tls_key_file) "tls.clientCaSecretName" (list $v.tls.clientCaSecretName $v.config.grpc.client_ca_file) "redis.passwordSecret.name" (list $v.redis.passwordSecret.name $v.config.ledger.password_file) "redis.caSecret.name" (list $v.redis.caSecret.name $v.config.ledger.ca_file) "redis.clientCertSecretName" (list $v.redis.clientCertSecretName $v.config.ledger.cert_file $v.config.ledger.key_file) }}
{{- if and (first $settings) (rest $settings | compact) }}
- {{ $secret }} is set, and so is the file in config that it stands for: unset one of them
{{- end }}
{{- end }}
{{- $tls := or $v.tls.secretName $v.config.grpc.tls_cert_file }}
{{- if not (or $tls $v.config.grpc.allow_plaintext) }}
- callers have no way in: set tls.secretName, or config.grpc.allow_plaintext=true where the network protects them
{{- end }}
{{- if and $v.tests.tlsSecretName (not $tls) }}
- tests.tlsSecretName is set, and callers come in plaintext: unset it, or set tls.secretName
{{- end }}
{{- if and $v.tls.clientCaSecretName (not $tls) }}
- tls.clientCaSecretName is set without tls.secretName: callers show certificates only over TLS
{{- end }}

{{- range $setting, $listen := dict "config.grpc.listen" $v.config.grpc.listen "config.admin.listen" $v.config.admin.listen }}
{{- $port := include "eni-gateway.port" $listen | int }}
{{- if regexMatch "^(127\\.|localhost:|\\[(0*:)+0*1\\]|\\[::ffff:127\\.)" $listen }}
- {{ $setting }} is {{ $listen }}, which nothing outside the pod reaches, not even its probes: write 0.0.0.0:PORT or "[::]:PORT"
{{- else if and $listen (or (lt $port 1) (gt $port 65535) (not (regexMatch "^(([0-9]{1,3}\\.){3}[0-9]{1,3}|\\[[0-9a-fA-F:.]+\\]):[0-9]+$" $listen))) }}
- {{ $setting }} is {{ $listen }}, and must be an IP address and a port from 1 to 65535: write 0.0.0.0:PORT or "[::]:PORT"
{{- end }}
{{- end }}
{{- if and $v.config.grpc.listen (eq (include "eni-gateway.port" $v.config.grpc.listen) (include "eni-gateway.port" $v.config.admin.listen)) }}
- config.grpc.listen and config.admin.listen have the same port: give one of them another
{{- end }}
{{- range $variable, $setting := dict "ENI_GATEWAY_GRPC__LISTEN" "config.grpc.listen" "ENI_GATEWAY_ADMIN__LISTEN" "config.admin.listen" }}
{{- range $v.extraEnv }}
{{- if eq .name $variable }}
- extraEnv sets {{ $variable }}, which the ports of pods, Services and policies do not follow: set {{ $setting }} instead
{{- end }}
{{- end }}
{{- end }}

{{- range $values, $labels := dict
  "commonLabels" $v.commonLabels "podLabels" $v.podLabels "ledgerInit.podLabels" $v.ledgerInit.podLabels
  "service.labels" $v.service.labels "metrics.serviceMonitor.labels" $v.metrics.serviceMonitor.labels
  "metrics.prometheusRule.labels" $v.metrics.prometheusRule.labels "metrics.dashboard.labels" $v.metrics.dashboard.labels }}
{{- range $label, $_ := $labels }}
{{- if regexMatch "^(app\\.kubernetes\\.io/(name|instance|component|version|managed-by)|helm\\.sh/chart)$" $label }}
- {{ $values }} sets {{ $label }}, which is the chart's own: leave it out
{{- end }}
{{- end }}
{{- end }}
{{- range $values, $annotations := dict "commonAnnotations" $v.commonAnnotations "podAnnotations" $v.podAnnotations }}
{{- if hasKey (default (dict) $annotations) "checksum/config" }}
- {{ $values }} sets checksum/config, which is the chart's own: leave it out
{{- end }}
{{- end }}

{{- $name := include "eni-gateway.fullname" . }}
{{- if not (regexMatch "^[a-z][-a-z0-9]*$" $name) }}
- the Services would be named {{ $name }}, and must begin with a letter, without dots: set fullnameOverride
{{- end }}
{{- if contains "@" $v.image.repository }}
- image.repository is {{ $v.image.repository }}, with a digest: put that into image.digest
{{- else if regexMatch ":[^/]*$" $v.image.repository }}
- image.repository is {{ $v.image.repository }}, with a tag: put that into image.tag
{{- end }}

{{- with $v.credentials }}
{{- $sts := "rrsa-webhook, rrsa-token or external" }}
{{- range $value, $use := dict
  "rrsa.roleName" (list .rrsa.roleName "rrsa-webhook")
  "rrsa.roleArn" (list .rrsa.roleArn "rrsa-token")
  "rrsa.oidcProviderArn" (list .rrsa.oidcProviderArn "rrsa-token")
  "rrsa.sessionName" (list .rrsa.sessionName $sts)
  "rrsa.stsRegion" (list .rrsa.stsRegion $sts)
  "rrsa.stsVpc" (list .rrsa.stsVpc $sts)
  "secret.name" (list .secret.name "secret")
  "ecsRole.name" (list .ecsRole.name "ecs-role") }}
{{- if and $mode (first $use) (not (regexMatch (printf "(^|[ ,])%s($|[ ,])" $mode) (last $use))) }}
- credentials.{{ $value }} is set, and credentials.mode is {{ $mode }}, which has no use for it: unset it, or set the mode to {{ last $use }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq $mode "rrsa-webhook" }}
{{- if not $v.credentials.rrsa.roleName }}
- credentials.rrsa.roleName is not set: rrsa-webhook needs the RAM role's name
{{- end }}
{{- if not $v.serviceAccount.create }}
- serviceAccount.create is false: rrsa-webhook annotates the ServiceAccount; annotate yours with pod-identity.alibabacloud.com/role-name and use credentials.mode=external
{{- end }}
{{- else if eq $mode "rrsa-token" }}
{{- if not (and $v.credentials.rrsa.roleArn $v.credentials.rrsa.oidcProviderArn) }}
- credentials.rrsa.roleArn and credentials.rrsa.oidcProviderArn: rrsa-token needs both
{{- end }}
{{- else if and (eq $mode "secret") (not $v.credentials.secret.name) }}
- credentials.secret.name is not set: name the Secret that holds the access key
{{- else if and (eq $mode "external") (not (or $v.extraEnv $v.extraEnvFrom)) (not $v.serviceAccount.name) }}
- credentials.mode is external, and nothing brings them: set extraEnv, extraEnvFrom, or the name of a ServiceAccount that is bound to a role
{{- end }}
{{- if and $v.credentials.rrsa.stsVpc (not $v.credentials.rrsa.stsRegion) }}
- credentials.rrsa.stsVpc is set without credentials.rrsa.stsRegion: STS inside the VPC is a region's
{{- end }}

{{- $least := add (include "eni-gateway.seconds" $v.config.grpc.drain_timeout) 5 }}
{{- if lt (int64 $v.terminationGracePeriodSeconds) $least }}
- terminationGracePeriodSeconds is {{ $v.terminationGracePeriodSeconds }}, and must be {{ $least }} or more: config.grpc.drain_timeout and 5 seconds to end; raise it, or lower that
{{- end }}
{{- if and $v.config.grpc.drain_timeout (ge (include "eni-gateway.seconds" $v.config.grpc.drain_delay | int) (include "eni-gateway.seconds" $v.config.grpc.drain_timeout | int)) }}
- config.grpc.drain_delay is not below config.grpc.drain_timeout, which it is a part of: raise that, or lower it
{{- end }}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) }}
- autoscaling.minReplicas is above autoscaling.maxReplicas: swap them
{{- end }}
{{- with $v.podDisruptionBudget }}
{{- $most := toString .maxUnavailable }}
{{- if and .enabled (regexMatch "^0+%?$" $most) }}
- podDisruptionBudget.maxUnavailable is {{ $most }}, and no node could be drained: set it to 1 or more, or podDisruptionBudget.enabled to false
{{- else if and (hasSuffix "%" $most) (gt (trimSuffix "%" $most | int) 100) }}
- podDisruptionBudget.maxUnavailable is {{ $most }}: write 100% or less
{{- end }}
{{- end }}
{{- if ne (empty $v.tests.instanceId) (empty $v.tests.networkInterfaceId) }}
- tests.instanceId and tests.networkInterfaceId: set both or none
{{- end }}
{{- end }}

{{- define "eni-gateway.check" -}}
{{- with include "eni-gateway.faults" . | trim }}
{{- fail (printf "\n\nthe values cannot be used:\n%s\n" .) }}
{{- end }}
{{- end }}
