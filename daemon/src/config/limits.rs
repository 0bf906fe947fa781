//! The limits of a directory: defaults (design's table of bounds), bounds, and what must hold between them.

use std::time::Duration;

use super::diagnostic::Problems;
use super::plan::DirectoryLimits;
use super::reader::Section;
use super::values::show_duration;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// What holds where nothing is written.
pub fn defaults() -> DirectoryLimits {
    DirectoryLimits {
        search_timeout: 60 * SECOND,
        operation_timeout: 30 * SECOND,
        connect_timeout: 5 * SECOND,
        retry_min: 500 * MILLISECOND,
        retry_max: 30 * SECOND,
        probe_interval: 10 * SECOND,
        probe_suspect_interval: 500 * MILLISECOND,
        probe_timeout: SECOND,
        eject_after: 3,
        queue_max: 10_000,
        client_pending_max: 100,
        request_bytes_max: 4 << 20,
        response_bytes_max: 16 << 20,
        filter_depth_max: 1000,
        whoami_cache: 300 * SECOND,
        whoami_wait: 100 * MILLISECOND,
        allow_unauthenticated_bind: false,
        pinned_max: 10_000,
        slow_start: Duration::ZERO,
        degraded_factor: 3,
    }
}

/// The limits written in a directory's section, defaults for the others.
pub fn read(p: &mut Problems, section: &mut Section<'_>) -> DirectoryLimits {
    let default = defaults();
    let mut length = |key, min, max, default| section.duration(p, key, min, max).map_or(default, |at| at.value);
    let mut limits = DirectoryLimits {
        search_timeout: length("search_timeout", 10 * MILLISECOND, 24 * HOUR, default.search_timeout),
        operation_timeout: length(
            "operation_timeout",
            10 * MILLISECOND,
            24 * HOUR,
            default.operation_timeout,
        ),
        connect_timeout: length("connect_timeout", 10 * MILLISECOND, HOUR, default.connect_timeout),
        retry_min: length("retry_min", 10 * MILLISECOND, HOUR, default.retry_min),
        retry_max: length("retry_max", 10 * MILLISECOND, 24 * HOUR, default.retry_max),
        probe_interval: length("probe_interval", Duration::ZERO, 24 * HOUR, default.probe_interval),
        probe_suspect_interval: length(
            "probe_suspect_interval",
            10 * MILLISECOND,
            HOUR,
            default.probe_suspect_interval,
        ),
        probe_timeout: length("probe_timeout", 10 * MILLISECOND, HOUR, default.probe_timeout),
        slow_start: length("slow_start", Duration::ZERO, HOUR, default.slow_start),
        whoami_cache: length("whoami_cache", Duration::ZERO, 24 * HOUR, default.whoami_cache),
        whoami_wait: length("whoami_wait", Duration::ZERO, 10 * SECOND, default.whoami_wait),
        ..default
    };
    let mut count = |key, min, max, default| section.count(p, key, min, max).map_or(default, |at| at.value);
    limits.eject_after = u32::try_from(count("eject_after", 1, 1000, 3)).unwrap_or(3);
    limits.degraded_factor = u32::try_from(count("degraded_factor", 0, 1000, 3)).unwrap_or(3);
    limits.queue_max = count("queue_max", 0, 10_000_000, limits.queue_max);
    limits.client_pending_max = count("client_pending_max", 0, 1_000_000, limits.client_pending_max);
    limits.filter_depth_max = count("filter_depth_max", 1, 100_000, limits.filter_depth_max);
    limits.pinned_max = count("pinned_max", 1, 1_000_000, limits.pinned_max);
    let mut size = |key, default| section.size(p, key, 1024, 1 << 30).map_or(default, |at| at.value);
    limits.request_bytes_max = size("request_bytes_max", limits.request_bytes_max);
    limits.response_bytes_max = size("response_bytes_max", limits.response_bytes_max);
    if let Some(allow) = section.boolean(p, "allow_unauthenticated_bind") {
        limits.allow_unauthenticated_bind = allow.value;
        if allow.value {
            p.warning(&allow.place, "binds with a DN and an empty password are passed on")
                .label("a server that accepts them lets programs believe that a user was checked (RFC 4513 5.1.2)");
        }
    }
    check_order(p, section, &limits);
    limits
}

fn check_order(p: &mut Problems, section: &Section<'_>, limits: &DirectoryLimits) {
    let mut ordered = |small: &'static str, small_value: Duration, large: &'static str, large_value: Duration| {
        if small_value <= large_value {
            return;
        }
        // Said where something is written: the other one may be a default.
        let at = if section.has(small) { small } else { large };
        p.error(
            &section.place_of(at),
            format!("`{small}` is longer than `{large}` in {}", section.title),
        )
        .label(format!(
            "{small} is {}, {large} is {}",
            show_duration(small_value),
            show_duration(large_value)
        ))
        .help(format!("make `{small}` at most `{large}`"));
    };
    ordered("retry_min", limits.retry_min, "retry_max", limits.retry_max);
    if !limits.probe_interval.is_zero() {
        ordered(
            "probe_suspect_interval",
            limits.probe_suspect_interval,
            "probe_interval",
            limits.probe_interval,
        );
    }
}
