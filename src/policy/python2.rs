//! Names of Python 2.

/// Modules and names of Python 2, as `_compat_pickle` maps them for protocols below 3.
const PYTHON2: &[(&str, &str)] = &[
    ("__builtin__", "builtins"),
    ("copy_reg", "copyreg"),
    ("Queue", "queue"),
    ("SocketServer", "socketserver"),
    ("ConfigParser", "configparser"),
    ("repr", "reprlib"),
    ("tkFileDialog", "tkinter.filedialog"),
    ("tkSimpleDialog", "tkinter.simpledialog"),
    ("tkColorChooser", "tkinter.colorchooser"),
    ("tkCommonDialog", "tkinter.commondialog"),
    ("Dialog", "tkinter.dialog"),
    ("Tkdnd", "tkinter.dnd"),
    ("tkFont", "tkinter.font"),
    ("tkMessageBox", "tkinter.messagebox"),
    ("ScrolledText", "tkinter.scrolledtext"),
    ("Tkconstants", "tkinter.constants"),
    ("Tix", "tkinter.tix"),
    ("ttk", "tkinter.ttk"),
    ("Tkinter", "tkinter"),
    ("markupbase", "_markupbase"),
    ("_winreg", "winreg"),
    ("thread", "_thread"),
    ("dummy_thread", "_dummy_thread"),
    ("dbhash", "dbm.bsd"),
    ("dumbdbm", "dbm.dumb"),
    ("dbm", "dbm.ndbm"),
    ("gdbm", "dbm.gnu"),
    ("xmlrpclib", "xmlrpc.client"),
    ("SimpleXMLRPCServer", "xmlrpc.server"),
    ("httplib", "http.client"),
    ("htmlentitydefs", "html.entities"),
    ("HTMLParser", "html.parser"),
    ("Cookie", "http.cookies"),
    ("cookielib", "http.cookiejar"),
    ("BaseHTTPServer", "http.server"),
    ("SimpleHTTPServer", "http.server"),
    ("CGIHTTPServer", "http.server"),
    ("test.test_support", "test.support"),
    ("commands", "subprocess"),
    ("urlparse", "urllib.parse"),
    ("robotparser", "urllib.robotparser"),
    ("urllib2", "urllib.request"),
    ("anydbm", "dbm"),
    ("_abcoll", "collections.abc"),
    ("cPickle", "pickle"),
    ("_elementtree", "xml.etree.ElementTree"),
    ("FileDialog", "tkinter.filedialog"),
    ("SimpleDialog", "tkinter.simpledialog"),
    ("DocXMLRPCServer", "xmlrpc.server"),
    ("StringIO", "io"),
    ("cStringIO", "io"),
    ("exceptions", "builtins"),
];

/// The module that a name of Python 2 has in Python 3. Applied for protocols below 3 only, as `CPython` does.
pub fn canonical(module: &str, protocol: u8) -> &str {
    let renamed = PYTHON2.iter().find(|(old, _)| *old == module && protocol < 3);
    renamed.map_or(module, |(_, new)| new)
}

/// Names of Python 2's `__builtin__` that Python 3 gives to something else, of those that are only data.
const BUILTINS: &[(&str, &str)] =
    &[("long", "int"), ("unicode", "str"), ("unichr", "chr"), ("xrange", "range")];

/// The name in Python 3's terms, of a module in Python 3's terms.
pub(crate) fn canonical_name<'a>(module: &str, name: &'a str, protocol: u8) -> &'a str {
    let renamed = BUILTINS.iter().find(|(old, _)| *old == name && module == "builtins" && protocol < 3);
    renamed.map_or(name, |(_, new)| new)
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn names_are_mapped_below_protocol_3_only() {
        assert_eq!(canonical("__builtin__", 2), "builtins");
        assert_eq!(canonical("__builtin__", 4), "__builtin__");
        assert_eq!(canonical("torch", 2), "torch");
    }
}
