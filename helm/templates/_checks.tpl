{{/* Conditions on several values. All errors are reported at once. The schema checks single values. */}}

{{- define "eni-gateway.faults" -}}
{{- $v := deepCopy .Values -}}

{{- /* Defaults replace null, so that the other checks can run. */}}
{{- $sections := list
  "commonLabels" "commonAnnotations" "image" "config" "config.grpc" "config.admin" "config.ledger" "config.ens" "config.limit"
  "config.log" "config.identity" "config.tracker" "config.watch" "credentials" "credentials.rrsa" "credentials.secret" "credentials.ecsRole"
  "credentials.assumeRole" "tls" "identity" "redis"
  "redis.urlSecret" "redis.passwordSecret" "redis.caSecret" "ledgerInit" "ledgerInit.podLabels" "ledgerInit.podAnnotations" "tracing" "logging"
  "service" "serviceAccount" "serviceAccount.annotations" "podLabels" "podAnnotations" "podDisruptionBudget" "autoscaling"
  "probes" "probes.startup" "probes.liveness" "probes.readiness" "deploymentAnnotations"
  "autoscaling.behavior" "networkPolicy" "metrics" "metrics.serviceMonitor" "metrics.prometheusRule" "metrics.dashboard" "tests" "simulator"
  "simulator.redis" "json" "json.resources" }}
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
- {{ join ", " . }}: null removes the defaults: remove the null
{{- end }}

{{- $url := default "" $v.config.ledger.url }}
{{- $mode := default "" $v.credentials.mode }}
{{- $memory := hasPrefix "memory://" $url }}

{{- if and $url $v.redis.urlSecret.name }}
- config.ledger.url and redis.urlSecret.name are both set: unset one of them
{{- end }}
{{- if $v.simulator.enabled }}
{{- if or $url $v.redis.urlSecret.name }}
- config.ledger.url is set, or redis.urlSecret.name, and simulator.enabled installs its own Redis: unset one of them
{{- end }}
{{- if $mode }}
- credentials.mode is set, and simulator.enabled has its own key: unset one of them
{{- end }}
{{- if $v.ledgerInit.enabled }}
- ledgerInit.enabled is true, and the simulator's Redis does not exist yet when the job runs: set it to false
{{- end }}
{{- else }}
{{- if not (or $url $v.redis.urlSecret.name) }}
- config.ledger.url is not set, and has no default: set the URL of your Redis, such as redis://redis:6379/0, or a Secret with it in redis.urlSecret.name, or use -f values-simulator.yaml
{{- end }}
{{- if not $mode }}
- credentials.mode is not set, and has no default: set one of rrsa-webhook, rrsa-token, secret, ecs-role, external
{{- end }}
{{- end }}

{{- if $v.json.enabled }}
{{- if or $v.tls.clientCaSecretName $v.config.grpc.client_ca_file }}
- json.enabled is true, and callers must have a client certificate, which Envoy would not ask for: set json.enabled to false, or unset tls.clientCaSecretName
{{- end }}
{{- if $v.config.grpc.tls_cert_file }}
- json.enabled is true, and config.grpc.tls_cert_file is a file that Envoy does not have: set tls.secretName
{{- end }}
{{- if eq (int $v.json.port) (int $v.service.port) }}
- json.port and service.port are the same: change one of them
{{- end }}
{{- range $name, $address := dict "config.grpc.listen" $v.config.grpc.listen "config.admin.listen" $v.config.admin.listen }}
{{- if hasSuffix (printf ":%v" $v.json.port) $address }}
- json.port is the port of {{ $name }}: choose another one
{{- end }}
{{- end }}
{{- end }}

{{- if $memory }}
{{- if or (gt (int $v.replicaCount) 1) $v.autoscaling.enabled }}
- config.ledger.url is memory://, which replicas do not share, so the limit would not hold: set replicaCount to 1 and autoscaling.enabled to false, or use a Redis
{{- end }}
{{- if or $v.redis.passwordSecret.name $v.redis.caSecret.name $v.redis.clientCertSecretName }}
- config.ledger.url is memory://, which ignores the values under redis: unset them
{{- end }}
{{- end }}
{{- /* The message does not repeat the URL, which may hold a password. */}}
{{- if and $url (not (regexMatch "^(memory://$|unix:///.|rediss?(-cluster)?://.|rediss?-sentinel://.+[?&]master=.)" $url)) }}
- config.ledger.url is none of memory://, unix:///path, redis[s]://host:port/db, redis[s]-sentinel://host,host/db?master=NAME, redis[s]-cluster://host,host: correct it
{{- end }}
{{- if regexMatch "://[^/?]*:[^/?]*@" $url }}
- config.ledger.url has a password, which would be readable in a ConfigMap: put it into a Secret, and name the Secret in redis.passwordSecret.name
{{- end }}
{{- if and (or $v.redis.caSecret.name $v.redis.clientCertSecretName) (not (hasPrefix "rediss" $url)) (not $v.redis.urlSecret.name) }}
- redis.caSecret.name or redis.clientCertSecretName is set, and config.ledger.url does not use TLS: write rediss://, rediss-sentinel:// or rediss-cluster://
{{- end }}

{{- range $secret, $settings := dict "tls.secretName" (list $v.tls.secretName $v.config.grpc.tls_cert_file $v.config.grpc.tls_key_file) "tls.clientCaSecretName" (list $v.tls.clientCaSecretName $v.config.grpc.client_ca_file) "identity.policy" (list $v.identity.policy $v.config.identity.policy_file) "redis.passwordSecret.name" (list $v.redis.passwordSecret.name $v.config.ledger.password_file) "redis.caSecret.name" (list $v.redis.caSecret.name $v.config.ledger.ca_file) "redis.clientCertSecretName" (list $v.redis.clientCertSecretName $v.config.ledger.cert_file $v.config.ledger.key_file) }}
{{- if and (first $settings) (rest $settings | compact) }}
- {{ $secret }} is set, and so is the file in config that it provides: unset one of them
{{- end }}
{{- end }}
{{- $tls := or $v.tls.secretName $v.config.grpc.tls_cert_file }}
{{- if not (or $tls $v.config.grpc.allow_plaintext) }}
- callers cannot connect: set tls.secretName, or config.grpc.allow_plaintext=true where the network encrypts
{{- end }}
{{- if and $v.tests.tlsSecretName (not $tls) }}
- tests.tlsSecretName is set, and calls are plaintext: unset it, or set tls.secretName
{{- end }}
{{- if and $v.tls.clientCaSecretName (not $tls) }}
- tls.clientCaSecretName is set without tls.secretName: set both, or none
{{- end }}
{{- if and $v.identity.policy (not (contains "[[issuers]]" $v.identity.policy)) (not (or $v.tls.clientCaSecretName $v.config.grpc.client_ca_file)) }}
- identity.policy has no [[issuers]] and is set without tls.clientCaSecretName, so no caller has an identity: set both, add issuers, or unset identity.policy
{{- end }}
{{- if and $v.tls.clientCrlKey (not $v.tls.clientCaSecretName) }}
- tls.clientCrlKey is set without tls.clientCaSecretName: set both, or unset tls.clientCrlKey
{{- end }}

{{- range $setting, $listen := dict "config.grpc.listen" $v.config.grpc.listen "config.admin.listen" $v.config.admin.listen }}
{{- $port := include "eni-gateway.port" $listen | int }}
{{- if regexMatch "^(127\\.|localhost:|\\[(0*:)+0*1\\]|\\[::ffff:127\\.)" $listen }}
- {{ $setting }} is {{ $listen }}, which is unreachable from outside the pod, also for its probes: set 0.0.0.0:PORT or "[::]:PORT"
{{- else if and $listen (or (lt $port 1) (gt $port 65535) (not (regexMatch "^(([0-9]{1,3}\\.){3}[0-9]{1,3}|\\[[0-9a-fA-F:.]+\\]):[0-9]+$" $listen))) }}
- {{ $setting }} is {{ $listen }}, and must be an IP address and a port from 1 to 65535: set 0.0.0.0:PORT or "[::]:PORT"
{{- end }}
{{- end }}
{{- if and $v.config.grpc.listen (eq (include "eni-gateway.port" $v.config.grpc.listen) (include "eni-gateway.port" $v.config.admin.listen)) }}
- config.grpc.listen and config.admin.listen have the same port: change one of them
{{- end }}
{{- range $variable, $setting := dict "ENI_GATEWAY_GRPC__LISTEN" "config.grpc.listen" "ENI_GATEWAY_ADMIN__LISTEN" "config.admin.listen" }}
{{- range $v.extraEnv }}
{{- if eq .name $variable }}
- extraEnv sets {{ $variable }}, which ports of pods, Services and policies ignore: set {{ $setting }} instead
{{- end }}
{{- end }}
{{- end }}

{{- range $values, $labels := dict
  "commonLabels" $v.commonLabels "podLabels" $v.podLabels "ledgerInit.podLabels" $v.ledgerInit.podLabels
  "service.labels" $v.service.labels "metrics.serviceMonitor.labels" $v.metrics.serviceMonitor.labels
  "metrics.prometheusRule.labels" $v.metrics.prometheusRule.labels "metrics.dashboard.labels" $v.metrics.dashboard.labels }}
{{- range $label, $_ := $labels }}
{{- if regexMatch "^(app\\.kubernetes\\.io/(name|instance|component|version|managed-by)|helm\\.sh/chart)$" $label }}
- {{ $values }} sets {{ $label }}, which the chart sets: remove it
{{- end }}
{{- end }}
{{- end }}
{{- range $values, $annotations := dict "commonAnnotations" $v.commonAnnotations "podAnnotations" $v.podAnnotations }}
{{- if hasKey (default (dict) $annotations) "checksum/config" }}
- {{ $values }} sets checksum/config, which the chart sets: remove it
{{- end }}
{{- end }}

{{- with $v.service }}
{{- if eq (default "ClusterIP" .type) "ClusterIP" }}
{{- range $value, $set := dict "service.nodePort" .nodePort "json.nodePort" $v.json.nodePort "service.externalTrafficPolicy" .externalTrafficPolicy }}
{{- if $set }}
- {{ $value }} is set, and service.type is ClusterIP, which ignores it: set the type to NodePort or LoadBalancer
{{- end }}
{{- end }}
{{- end }}
{{- if and (or .loadBalancerSourceRanges .loadBalancerClass) (ne (default "" .type) "LoadBalancer") }}
- service.loadBalancerSourceRanges or service.loadBalancerClass is set, and service.type is not LoadBalancer, so any address may connect: set the type to LoadBalancer
{{- end }}
{{- end }}

{{- $name := include "eni-gateway.fullname" . }}
{{- if not (regexMatch "^[a-z][-a-z0-9]*$" $name) }}
- the Services would be named {{ $name }}, and a name must begin with a letter and have no dots: set fullnameOverride
{{- end }}
{{- if contains "@" $v.image.repository }}
- image.repository is {{ $v.image.repository }}, with a digest: set image.digest instead
{{- else if regexMatch ":[^/]*$" $v.image.repository }}
- image.repository is {{ $v.image.repository }}, with a tag: set image.tag instead
{{- end }}

{{- with $v.credentials }}
{{- $service := "rrsa-webhook, rrsa-token or external" }}
{{- $sts := ternary "secret, rrsa-webhook, rrsa-token or external" $service (ne (default "" .assumeRole.roleArn) "") }}
{{- range $value, $use := dict
  "rrsa.roleName" (list .rrsa.roleName "rrsa-webhook")
  "rrsa.roleArn" (list .rrsa.roleArn "rrsa-token")
  "rrsa.oidcProviderArn" (list .rrsa.oidcProviderArn "rrsa-token")
  "rrsa.sessionName" (list .rrsa.sessionName $service)
  "rrsa.stsRegion" (list .rrsa.stsRegion $sts)
  "rrsa.stsVpc" (list .rrsa.stsVpc $sts)
  "secret.name" (list .secret.name "secret")
  "assumeRole.roleArn" (list .assumeRole.roleArn "secret")
  "ecsRole.name" (list .ecsRole.name "ecs-role") }}
{{- if and $mode (first $use) (not (regexMatch (printf "(^|[ ,])%s($|[ ,])" $mode) (last $use))) }}
- credentials.{{ $value }} is set, and credentials.mode is {{ $mode }}, which ignores it: unset it, or set the mode to {{ last $use }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq $mode "rrsa-webhook" }}
{{- if not $v.credentials.rrsa.roleName }}
- credentials.rrsa.roleName is not set, and rrsa-webhook needs it: set the RAM role's name
{{- end }}
{{- if not $v.serviceAccount.create }}
- serviceAccount.create is false: rrsa-webhook annotates the ServiceAccount; annotate yours with pod-identity.alibabacloud.com/role-name and use credentials.mode=external
{{- end }}
{{- else if eq $mode "rrsa-token" }}
{{- if not (and $v.credentials.rrsa.roleArn $v.credentials.rrsa.oidcProviderArn) }}
- credentials.rrsa.roleArn or credentials.rrsa.oidcProviderArn is not set, and rrsa-token needs both: set both
{{- end }}
{{- else if and (eq $mode "secret") (not $v.credentials.secret.name) }}
- credentials.secret.name is not set: set the name of the Secret with the access key
{{- else if and (eq $mode "external") (not (or $v.extraEnv $v.extraEnvFrom)) (not $v.serviceAccount.name) }}
- credentials.mode is external, and no value supplies credentials: set extraEnv, extraEnvFrom, or serviceAccount.name with a role
{{- end }}
{{- with $v.credentials }}
{{- range $value, $set := dict
  "assumeRole.sessionName" .assumeRole.sessionName "assumeRole.policy" .assumeRole.policy "secret.externalIdKey" .secret.externalIdKey }}
{{- if and $set (not $v.credentials.assumeRole.roleArn) }}
- credentials.{{ $value }} is set without credentials.assumeRole.roleArn: set the ARN of the role
{{- end }}
{{- end }}
{{- end }}
{{- if and $v.credentials.rrsa.stsVpc (not $v.credentials.rrsa.stsRegion) }}
- credentials.rrsa.stsVpc is set without credentials.rrsa.stsRegion: set the region of STS in the VPC
{{- end }}

{{- $least := add (include "eni-gateway.seconds" $v.config.grpc.drain_timeout) 5 }}
{{- if lt (int64 $v.terminationGracePeriodSeconds) $least }}
- terminationGracePeriodSeconds is {{ $v.terminationGracePeriodSeconds }}, and must be at least config.grpc.drain_timeout and 5 seconds, {{ $least }}: raise it, or lower config.grpc.drain_timeout
{{- end }}
{{- if and $v.config.grpc.drain_timeout (ge (include "eni-gateway.seconds" $v.config.grpc.drain_delay | int) (include "eni-gateway.seconds" $v.config.grpc.drain_timeout | int)) }}
- config.grpc.drain_delay is not below config.grpc.drain_timeout, which includes it: lower the delay, or raise the timeout
{{- end }}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) }}
- autoscaling.minReplicas is above autoscaling.maxReplicas: swap them
{{- end }}
{{- with $v.podDisruptionBudget }}
{{- $most := toString .maxUnavailable }}
{{- $least := toString .minAvailable }}
{{- if and .enabled $least (or (eq $least "100%") (and (regexMatch "^[0-9]+$" $least) (not $v.autoscaling.enabled) (ge (int $least) (int $v.replicaCount)))) }}
- podDisruptionBudget.minAvailable is {{ $least }}, which blocks drains of nodes: set it below the number of replicas
{{- else if and .enabled (not $least) (regexMatch "^0+%?$" $most) }}
- podDisruptionBudget.maxUnavailable is {{ $most }}, which blocks drains of nodes: set it to 1 or more, or podDisruptionBudget.enabled to false
{{- else if and (hasSuffix "%" $most) (gt (trimSuffix "%" $most | int) 100) }}
- podDisruptionBudget.maxUnavailable is {{ $most }}: set 100% or less
{{- end }}
{{- end }}
{{- if ne (empty $v.tests.instanceId) (empty $v.tests.networkInterfaceId) }}
- tests.instanceId and tests.networkInterfaceId: set both or none
{{- end }}
{{- end }}

{{- define "eni-gateway.check" -}}
{{- with include "eni-gateway.faults" . | trim }}
{{- fail (printf "\n\ninvalid values:\n%s\n" .) }}
{{- end }}
{{- end }}
