#!/usr/bin/env python3
"""Prints the Grafana dashboard: `make dashboards` writes helm/odradek/files/dashboards/odradek.json.

A panel has a title, a Grafana unit, and queries with their legends. `ZONE` is the join that adds the
zone of the replica to a metric.
"""
import json

ZONE = '* on(instance) group_left(zone) odradek_build_info{zone=~"$zone"}'
HERE = 'instance=~"$instance"'
RATE = "[$__rate_interval]"


def quantiles(metric, labels=""):
    by = ", ".join(["le"] + ([labels] if labels else []))
    name = f" {{{{{labels}}}}}" if labels else ""
    return [
        (f"histogram_quantile({q}, sum by ({by}) (rate({metric}_bucket{{{HERE}}}{RATE})))", f"p{round(q * 100)}{name}")
        for q in (0.5, 0.99)
    ]


def stages(metric):
    mean = f"sum by (stage) (rate({metric}_sum{{{HERE}}}{RATE})) / on() group_left() sum(rate({metric}_count{{{HERE},stage=\"{{first}}\"}}{RATE}))"
    return lambda first: [(mean.replace("{first}", first), "{{stage}}")]


def per_second(metric, by, extra=""):
    return [(f"sum by ({by}) (rate({metric}{{{HERE}{extra}}}{RATE}))", " ".join(f"{{{{{b.strip()}}}}}" for b in by.split(",")))]


ROWS = [
    ("Costs and zones", [
        ("Saved since the start of the replicas", "currencyUSD", "stat", [(f"sum(odradek_cost_saved_dollars {ZONE})", "saved")]),
        ("Saved per month, at the current rate", "currencyUSD", "stat", [
            (f"2628000 * (sum(rate(odradek_cost_baseline_dollars_total{RATE})) - sum(rate(odradek_cost_spent_dollars_total{RATE})))", "per month")]),
        ("Cost per day, by item", "currencyUSD", "timeseries", [
            (f"86400 * sum by (item) (rate(odradek_cost_spent_dollars_total{{{HERE}}}{RATE}))", "spent on {{item}}"),
            (f"86400 * sum(rate(odradek_cost_baseline_dollars_total{{{HERE}}}{RATE}))", "baseline: replicated Kafka")]),
        ("Saved, by zone", "currencyUSD", "timeseries", [(f"sum by (zone) (odradek_cost_saved_dollars {ZONE})", "{{zone}}")]),
        ("Cross-zone traffic", "Bps", "timeseries", [
            (f"sum by (path, api) (rate(odradek_cross_zone_bytes_total{{{HERE}}}{RATE})) or vector(0)", "{{path}} {{api}}")]),
        ("Client zone resolution", "reqps", "timeseries", per_second("odradek_client_zone_resolutions_total", "outcome")),
        ("Live replicas, by zone", "none", "timeseries", [("max by (zone) (odradek_members)", "{{zone}}")]),
        ("Connections", "none", "timeseries", [(f"sum by (endpoint) (odradek_connections{{{HERE}}})", "{{endpoint}}")]),
    ]),
    ("Produce", [
        ("Produce requests to diskless nodes", "reqps", "timeseries", [
            (f'sum by (zone) (rate(odradek_requests_total{{api="Produce",endpoint="diskless"}}{RATE}) {ZONE})', "{{zone}}")]),
        ("Duration", "s", "timeseries", quantiles("odradek_produce_duration_seconds")),
        ("Duration of stages (mean)", "s", "timeseries", stages("odradek_produce_stage_duration_seconds")("admit")),
        ("Partitions with errors, by Kafka error code", "reqps", "timeseries", [
            (f"sum by (api, code) (rate(odradek_partition_errors_total{{{HERE}}}{RATE})) or vector(0)", "{{api}} {{code}}")]),
        ("Objects written", "ops", "timeseries", [(f"sum(rate(odradek_objects_written_total{{{HERE}}}{RATE}))", "objects")]),
        ("Object size (mean)", "bytes", "timeseries", [
            (f"sum(rate(odradek_object_size_bytes_sum{{{HERE}}}{RATE})) / sum(rate(odradek_object_size_bytes_count{{{HERE}}}{RATE}))", "bytes")]),
        ("Batches and partitions per object (mean)", "none", "timeseries", [
            (f"sum(rate(odradek_object_batches_sum{{{HERE}}}{RATE})) / sum(rate(odradek_object_batches_count{{{HERE}}}{RATE}))", "batches"),
            (f"sum(rate(odradek_object_partitions_sum{{{HERE}}}{RATE})) / sum(rate(odradek_object_partitions_count{{{HERE}}}{RATE}))", "partitions")]),
        ("Memory pools", "percentunit", "timeseries", [
            (f"max by (pool) (odradek_memory_pool_used_bytes{{{HERE}}} / odradek_memory_pool_limit_bytes{{{HERE}}})", "{{pool}}"),
            (f"sum(rate(odradek_memory_pool_waits_total{{{HERE}}}{RATE}))", "waits per second")]),
    ]),
    ("Fetch", [
        ("Bytes fetched", "Bps", "timeseries", [(f"sum by (zone) (rate(odradek_fetched_bytes_total{RATE}) {ZONE})", "{{zone}}")]),
        ("Duration, including the client's wait", "s", "timeseries", quantiles("odradek_fetch_duration_seconds")),
        ("Duration of stages (mean)", "s", "timeseries", stages("odradek_fetch_stage_duration_seconds")("plan")),
        ("Outcomes of waits", "ops", "timeseries", per_second("odradek_fetch_waits_total", "outcome")),
        ("Cache lookups", "ops", "timeseries", per_second("odradek_cache_lookups_total", "outcome")),
        ("Cache size", "bytes", "timeseries", [(f"sum by (instance) (odradek_cache_bytes{{{HERE}}})", "{{instance}}")]),
        ("Requests to peers", "ops", "timeseries", per_second("odradek_peer_requests_total", "outcome")),
        ("Event lag", "s", "timeseries", quantiles("odradek_coordinator_event_lag_seconds")),
    ]),
    ("Object store", [
        ("Calls", "ops", "timeseries", per_second("odradek_store_requests_total", "operation", ',outcome="ok"')),
        ("Failed calls", "ops", "timeseries", [
            (f'sum by (operation, outcome) (rate(odradek_store_requests_total{{{HERE},outcome!~"ok|not_found|exists"}}{RATE})) > 0 or vector(0)', "{{operation}} {{outcome}}")]),
        ("Duration of calls", "s", "timeseries", quantiles("odradek_store_request_duration_seconds", "operation")),
        ("Bytes", "Bps", "timeseries", per_second("odradek_store_bytes_total", "operation")),
        ("PUTs: retried, hedged, throttled", "ops", "timeseries", [
            (f"sum(rate(odradek_object_put_errors_total{{{HERE}}}{RATE}))", "retried"),
            (f"sum(rate(odradek_object_put_hedges_total{{{HERE}}}{RATE}))", "hedged"),
            (f"sum(rate(odradek_object_put_slow_downs_total{{{HERE}}}{RATE}))", "throttled")]),
        ("Upload duration", "s", "timeseries", quantiles("odradek_object_put_duration_seconds")),
    ]),
    ("Batch coordinator", [
        ("Calls", "ops", "timeseries", per_second("odradek_coordinator_requests_total", "operation", ',outcome="ok"')),
        ("Failed calls", "ops", "timeseries", [
            (f'sum by (operation, outcome) (rate(odradek_coordinator_requests_total{{{HERE},outcome!="ok"}}{RATE})) > 0 or vector(0)', "{{operation}} {{outcome}}")]),
        ("Duration of calls", "s", "timeseries", quantiles("odradek_coordinator_request_duration_seconds", "operation")),
        ("Metadata lost", "none", "timeseries", [(f"max by (instance) (odradek_coordinator_metadata_lost{{{HERE}}})", "{{instance}}")]),
        ("Verifications of Redis, and commit retries", "none", "timeseries", [
            (f"max(odradek_coordinator_verifications_total{{{HERE}}})", "verifications"),
            (f"sum(rate(odradek_commit_retries_total{{{HERE}}}{RATE}))", "retries per second")]),
    ]),
    ("Background", [
        ("Seconds since the last success", "s", "timeseries", [(f"max by (operation) (odradek_last_success_age_seconds{{{HERE}}})", "{{operation}}")]),
        ("Lease renewals", "ops", "timeseries", [(f"sum by (instance) (rate(odradek_lease_renewals_total{{{HERE}}}{RATE}))", "{{instance}}")]),
        ("Placeholders with records", "none", "timeseries", [(f"max(odradek_placeholders_with_records{{{HERE}}})", "topics")]),
        ("Diskless topics", "none", "timeseries", [(f"max(odradek_diskless_topics{{{HERE}}})", "topics")]),
        ("CPU", "none", "timeseries", [(f"sum by (instance) (rate(process_cpu_seconds_total{{{HERE}}}{RATE}))", "{{instance}}")]),
        ("Resident memory", "bytes", "timeseries", [(f"sum by (instance) (process_resident_memory_bytes{{{HERE}}})", "{{instance}}")]),
    ]),
]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panel(number, at, title, unit, kind, queries):
    targets = [
        {"datasource": SOURCE, "expr": expr, "legendFormat": legend, "refId": chr(ord("A") + index)}
        for index, (expr, legend) in enumerate(queries)
    ]
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    if kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "area"}
    return {
        "id": number, "title": title, "type": kind, "datasource": SOURCE, "targets": targets, "options": options,
        "fieldConfig": {"defaults": {"unit": unit, "custom": {"fillOpacity": 8, "showPoints": "never"}}, "overrides": []},
        "gridPos": {"h": 8, "w": 6, "x": at[0], "y": at[1]},
    }


def variable(name, label, query):
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "sort": 1,
        "includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }


def dashboard():
    panels, number, y = [], 1, 0
    for title, row in ROWS:
        panels.append({"id": number, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
        number, y = number + 1, y + 1
        for index, (name, unit, kind, queries) in enumerate(row):
            panels.append(panel(number, (6 * (index % 4), y + 8 * (index // 4)), name, unit, kind, queries))
            number += 1
        y += 8 * ((len(row) + 3) // 4)
    templating = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}},
        variable("zone", "Zone", "label_values(odradek_build_info, zone)"),
        variable("instance", "Replica", 'label_values(odradek_build_info{zone=~"$zone"}, instance)'),
    ]
    return {
        "uid": "odradek", "title": "Odradek", "tags": ["kafka", "odradek"], "schemaVersion": 39, "editable": True,
        "time": {"from": "now-1h", "to": "now"}, "refresh": "30s", "timezone": "browser",
        "templating": {"list": templating}, "annotations": {"list": []}, "panels": panels,
    }


print(json.dumps(dashboard(), indent=1))
