//! The policy file: who may open the nodes, and how much they may have. `docs/policy.toml` explains it.

use std::path::Path;

use serde::Deserialize;
use virgld_platform::host::door;

use super::Error;

/// A policy. What a file does not say is as in [`Policy::default`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policy {
    card0: Admission,
    #[serde(rename = "renderD128")]
    render: Admission,
    client: Client,
    user: User,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Admission {
    users: Vec<UserId>,
    groups: Vec<GroupId>,
}

/// Names are looked up while the file is read, so that the error of an unknown one has its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Name")]
struct UserId(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Name")]
struct GroupId(u32);

/// A user or group, as the file has it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number, or a name in quotes")]
enum Name {
    Number(u32),
    Text(String),
}

impl TryFrom<Name> for UserId {
    type Error = String;

    fn try_from(name: Name) -> Result<Self, String> {
        name.number(Path::new("/etc/passwd")).map(Self)
    }
}

impl TryFrom<Name> for GroupId {
    type Error = String;

    fn try_from(name: Name) -> Result<Self, String> {
        name.number(Path::new("/etc/group")).map(Self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Client {
    bytes: u64,
    shareable_bytes: u64,
    resources: usize,
    shareable_resources: usize,
    copied_bytes: u64,
    syncobjs: usize,
    processes: usize,
    calls_in_flight: usize,
    calls_beside_others: usize,
    bytes_beside_others: usize,
    bytes_in_flight: usize,
    fences: usize,
    foreign_fences: usize,
    calls_per_second: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct User {
    files: usize,
    bytes: u64,
    shareable_bytes: u64,
    resources: usize,
    shareable_resources: usize,
    copied_bytes: u64,
    contexts: usize,
    syncobjs: usize,
    shared_syncobjs: usize,
    merged_fences: usize,
    calls_in_flight: usize,
    bytes_in_flight: usize,
    fences: usize,
}

impl Default for Client {
    fn default() -> Self {
        let (door, resource) = (door::Limits::default().file, virgld_resource::Limits::default().file);
        Self {
            bytes: resource.bytes,
            shareable_bytes: resource.isolated_bytes,
            resources: resource.resources,
            shareable_resources: resource.isolated,
            copied_bytes: resource.copied_bytes,
            syncobjs: virgld_scheme::Limits::default().syncobjs,
            processes: door.processes,
            calls_in_flight: door.calls_in_flight,
            calls_beside_others: door.calls_beside_others,
            bytes_beside_others: door.bytes_beside_others,
            bytes_in_flight: door.bytes_in_flight,
            fences: door.fences_in_stock,
            foreign_fences: door.foreign_fences,
            calls_per_second: door.calls_per_second,
        }
    }
}

impl Default for User {
    fn default() -> Self {
        let (door, resource) = (door::Limits::default().user, virgld_resource::Limits::default().user);
        let scheme = virgld_scheme::Limits::default().user;
        Self {
            files: door.files,
            bytes: resource.bytes,
            shareable_bytes: resource.isolated_bytes,
            resources: resource.resources,
            shareable_resources: resource.isolated,
            copied_bytes: resource.copied_bytes,
            contexts: scheme.contexts,
            syncobjs: scheme.syncobjs,
            shared_syncobjs: scheme.exported_syncobjs,
            merged_fences: scheme.merged_fences,
            calls_in_flight: door.calls_in_flight,
            bytes_in_flight: door.bytes_in_flight,
            fences: door.fences,
        }
    }
}

impl Policy {
    /// Reads a policy; without a file, the default.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self::default()) };
        let failed = |what: String| format!("the policy {}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        Ok(toml::from_str(&text).map_err(|error| failed(error.to_string()))?)
    }

    /// Who may open what, in numbers.
    pub(crate) fn access(&self) -> door::Access {
        door::Access { card: self.card0.in_numbers(), render: self.render.in_numbers() }
    }

    /// What the door sees to.
    pub(crate) fn door(&self) -> door::Limits {
        let (client, user) = (&self.client, &self.user);
        let file = door::FileLimits {
            processes: client.processes,
            calls_in_flight: client.calls_in_flight,
            calls_beside_others: client.calls_beside_others,
            bytes_beside_others: client.bytes_beside_others,
            bytes_in_flight: client.bytes_in_flight,
            fences_in_stock: client.fences,
            buffers_in_stock: stock(client.resources as u64),
            bytes_in_stock: stock(client.bytes),
            foreign_fences: client.foreign_fences,
            calls_per_second: client.calls_per_second,
        };
        let user = door::UserLimits {
            files: user.files,
            calls_in_flight: user.calls_in_flight,
            bytes_in_flight: user.bytes_in_flight,
            fences: user.fences,
        };
        door::Limits { file, user, ..door::Limits::default() }
    }

    /// What the resource actor sees to.
    pub(crate) fn resource(&self) -> virgld_resource::Limits {
        let (client, user) = (&self.client, &self.user);
        let file = virgld_resource::Quota {
            bytes: client.bytes,
            isolated_bytes: client.shareable_bytes,
            resources: client.resources,
            isolated: client.shareable_resources,
            copied_bytes: client.copied_bytes,
        };
        let user = virgld_resource::Quota {
            bytes: user.bytes,
            isolated_bytes: user.shareable_bytes,
            resources: user.resources,
            isolated: user.shareable_resources,
            copied_bytes: user.copied_bytes,
        };
        virgld_resource::Limits { file, user, ..virgld_resource::Limits::default() }
    }

    /// What the scheme sees to.
    pub(crate) fn scheme(&self) -> virgld_scheme::Limits {
        let user = virgld_scheme::UserLimits {
            contexts: self.user.contexts,
            syncobjs: self.user.syncobjs,
            exported_syncobjs: self.user.shared_syncobjs,
            merged_fences: self.user.merged_fences,
        };
        virgld_scheme::Limits { syncobjs: self.client.syncobjs, user, ..virgld_scheme::Limits::default() }
    }
}

impl Admission {
    fn in_numbers(&self) -> door::Admission {
        door::Admission {
            users: self.users.iter().map(|user| user.0).collect(),
            groups: self.groups.iter().map(|group| group.0).collect(),
        }
    }
}

/// How much of a quota may be buffers in advance: by so little a program may find it used up too early.
fn stock(quota: u64) -> u32 {
    u32::try_from(quota / 2048).unwrap_or(u32::MAX)
}

impl Name {
    /// The number, as `list` has it: a line for each, its name and, third, its number.
    fn number(&self, list: &Path) -> Result<u32, String> {
        let name = match self {
            Self::Number(number) => return Ok(*number),
            Self::Text(name) => name,
        };
        let text = std::fs::read_to_string(list).map_err(|error| format!("{}: {error}", list.display()))?;
        let line = |line: &str| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
        };
        let number = text.lines().find_map(line);
        number.ok_or_else(|| format!("{} has no {name}", list.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_values_are_the_default() {
        let documented: Policy = toml::from_str(include_str!("../../../docs/policy.toml")).unwrap();
        assert_eq!(documented, Policy::default());
        assert!(documented.access().is_private());
    }

    #[test]
    fn a_policy_says_only_what_it_changes() {
        let text = "[renderD128]\nusers = [1000, \"root\"]\ngroups = [\"root\"]\n[client]\nresources = 7\n\
                    [user]\ncontexts = 2\n";
        let policy: Policy = toml::from_str(text).unwrap();
        let access = policy.access();
        assert_eq!((access.render.users, access.render.groups), (vec![1000, 0], vec![0]));
        assert!(access.card.users.is_empty());
        assert_eq!(policy.resource().file.resources, 7);
        assert_eq!(policy.scheme().user.contexts, 2);
        assert_eq!(policy.door().user, door::Limits::default().user);
        assert_eq!(policy.door().file.buffers_in_stock, 0, "of seven, every one counts");
        assert_eq!(Policy::default().door().file, door::Limits::default().file);
    }

    #[test]
    fn what_is_misspelt_is_told_and_not_ignored() {
        for bad in
            ["[client]\nresource = 7\n", "[card1]\n", "[client]\nbytes = -1\n", "[user]\nfiles = \"x\"\n"]
        {
            assert!(toml::from_str::<Policy>(bad).is_err(), "{bad}");
        }
        for (bad, line, expected) in [
            ("[card0]\n\nusers = [0, \"no such user\"]\n", 3, "/etc/passwd has no no such user"),
            ("[card0]\ngroups = [\"no such group\"]\n", 2, "/etc/group has no no such group"),
            ("[renderD128]\nusers = [[1]]\n", 2, "expected a number, or a name in quotes"),
        ] {
            let told = toml::from_str::<Policy>(bad).unwrap_err().to_string();
            assert!(told.contains(&format!("line {line}, ")) && told.contains(expected), "{told}");
        }
    }
}
