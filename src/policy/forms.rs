//! The forms in which honest files use what is risky: arguments that make it data, as long as nothing calls the result.

use crate::pickle::{Call, Node, NodeId};

use super::judge::Judge;
use super::tables;

const PYG_BATCH: (&str, &str) = ("torch_geometric.data.batch", "DynamicInheritanceGetter");

impl Judge<'_> {
    /// Risky callables in the forms that honest files have, as long as nothing calls the result.
    pub(super) fn is_honest_form(&self, module: &str, name: &str, call: &Call, id: NodeId) -> bool {
        let args = self.graph.tuple(call.args).unwrap_or_default();
        if let ("builtins", "getattr", [class, attribute]) = (module, name, args)
            && self.is_known_attribute(*class, *attribute)
        {
            return true;
        }
        !self.called.contains(&id)
            && match (module, name, args) {
                ("builtins", "getattr", [object, attribute]) => {
                    self.is_inert(*object) && self.is_plain(*attribute)
                }
                ("builtins", "setattr", [object, attribute, value]) => {
                    self.is_inert(*object) && self.is_plain(*attribute)
                        || self.names_class(*object, *attribute, *value)
                }
                // The type `int | None`, as `copyreg.pickle_union` writes it.
                ("functools" | "_functools", "reduce", [function, types]) => {
                    matches!(self.names(*function), Some(("operator" | "_operator", "or_")))
                        && self
                            .graph
                            .tuple(*types)
                            .is_some_and(|types| types.iter().all(|id| self.may_be_type(*id)))
                }
                // The type of `None`, and the types that hints are made of: `Optional[int]`.
                ("builtins", "type", [value]) => *self.graph.node(*value) == Node::None,
                ("operator" | "_operator", "getitem", [generic, _]) => {
                    self.names(*generic).is_some_and(|(module, _)| module == "typing")
                }
                // Picks items of what it is called with: a column, in a pipeline of scikit-learn.
                ("operator" | "_operator", "itemgetter", items) => items
                    .iter()
                    .all(|item| self.graph.int(*item).is_some() || self.graph.text(*item).is_some()),
                // numpy/core/__init__.py: a function of numpy or scipy by its name.
                ("numpy.core" | "numpy._core", "_ufunc_reconstruct", [module, name]) => {
                    matches!(self.graph.text(*module).as_deref(), Some("numpy" | "scipy.special"))
                        && self.is_plain(*name)
                }
                ("functools", "partial", [callable, ..]) => self.is_harmless_callable(*callable),
                // The iterator of a list, which pickles as a call with what is left of it; a second argument makes it one of a callable.
                ("builtins", "iter", [items]) => self.graph.sequence(*items).is_some(),
                // PaddlePaddle's tensors before 2.1, in this shape and no other: the array is the result.
                ("builtins", "eval", [text, names]) => {
                    self.graph.text(*text).as_deref() == Some("data") && self.is_array_named_data(*names)
                }
                ("builtins", "property" | "classmethod" | "staticmethod", parts) => {
                    parts.iter().all(|part| self.is_part_of_class(*part))
                }
                (_, "subimport", [imported]) | (_, "_import_module", [imported] | [imported, _])
                    if tables::is_of_cloudpickle(module) =>
                {
                    self.graph.text(*imported).is_some_and(|imported| tables::is_identifier_path(&imported))
                }
                _ => false,
            }
    }

    /// A function or class by its name that is not dangerous, or that is an attribute of one, as `torch.clamp` is.
    fn is_harmless_callable(&self, id: NodeId) -> bool {
        if let Some(call) = self.graph.call(id) {
            let args = self.graph.tuple(call.args).unwrap_or_default();
            let is_getattr = self.names(call.callable) == Some(("builtins", "getattr"));
            let by_value =
                self.names(call.callable).is_some_and(|(module, name)| tables::carries_code(module, name));
            return by_value
                || is_getattr
                    && matches!(args, [object, attribute] if self.is_inert(*object) && self.is_plain(*attribute));
        }
        self.names(id).is_some_and(|(module, name)| {
            tables::is_harmless_uncalled(module, name) || !tables::is_dangerous(module, name)
        })
    }

    /// Gives a class that is carried by value its full name, as dill does.
    fn names_class(&self, object: NodeId, attribute: NodeId, value: NodeId) -> bool {
        let maker = self.graph.call(object).and_then(|call| self.names(call.callable));
        maker.is_some_and(|(module, name)| tables::makes_class(module, name))
            && self.graph.text(attribute).as_deref() == Some("__qualname__")
            && self.graph.text(value).is_some()
    }

    /// A class by its name, or what a call gave, which is judged by itself.
    fn may_be_type(&self, id: NodeId) -> bool {
        self.graph.call(id).is_some()
            || self.names(id).is_some_and(|(module, name)| !tables::is_dangerous(module, name))
    }

    /// Such an attribute, named by a call of `getattr`, or an object that only makes a class of two.
    pub(super) fn is_attribute(&self, id: NodeId) -> bool {
        let Some(maker) = self.graph.call(id) else { return false };
        // torch_geometric/data/batch.py, `Batch.__reduce__`: called with the class of the batch and that of its parts.
        if maker.how.is_new() && self.names(maker.callable) == Some(PYG_BATCH) {
            return true;
        }
        let is_getattr = self.names(maker.callable) == Some(("builtins", "getattr"));
        let args = self.graph.tuple(maker.args).unwrap_or_default();
        is_getattr && matches!(args, [class, attribute] if self.is_known_attribute(*class, *attribute))
    }

    /// Attributes of classes that only hold what they are called with. Before protocol 4, and always for what is given by a
    /// method, Python names them by a call.
    fn is_known_attribute(&self, class: NodeId, attribute: NodeId) -> bool {
        let known = self.names(class).is_some_and(|(module, name)| {
            self.graph
                .text(attribute)
                .is_some_and(|attribute| tables::is_known_attribute(module, name, &attribute))
        });
        known && self.graph.as_global(class).is_some()
    }

    /// `{"data": array}`
    fn is_array_named_data(&self, names: NodeId) -> bool {
        let Node::Dict(items) = self.graph.node(names) else { return false };
        let [(key, array)] = items.as_slice() else { return false };
        let callable = self.graph.call(*array).map(|call| call.callable);
        let of_numpy = |id: NodeId| self.names(id).is_some_and(|(module, _)| module.starts_with("numpy."));
        let allowed = |id: NodeId| match self.graph.node(id) {
            Node::Global(global) => self.is_allowed(global.index()),
            _ => false,
        };
        self.graph.text(*key).as_deref() == Some("data")
            && callable.is_some_and(|id| of_numpy(id) && allowed(id))
    }

    /// A function that is carried by value, or what describes one.
    fn is_part_of_class(&self, id: NodeId) -> bool {
        match self.graph.node(id) {
            Node::None | Node::Str(_) | Node::Str2(_) => true,
            Node::Call(call) => {
                self.names(call.callable).is_some_and(|(module, name)| tables::carries_code(module, name))
            }
            _ => false,
        }
    }

    /// Calls of what another call gave, as cloudpickle and dill carry code by value: a code object from its parts, and
    /// an instance of a class that was made from its own.
    pub(super) fn is_by_value(&self, call: &Call, callable: NodeId) -> bool {
        let Some(maker) = self.graph.call(callable) else { return false };
        let Some((module, name)) = self.names(maker.callable) else { return false };
        let args = self.graph.tuple(maker.args).unwrap_or_default();
        if self.is_attribute(callable) {
            return true;
        }
        if tables::names_types(module, name) {
            let [kind] = args else { return false };
            let given = self.graph.tuple(call.args).unwrap_or_default();
            return match self.graph.text(*kind).as_deref() {
                Some("CodeType" | "MappingProxyType" | "GenericAlias" | "SimpleNamespace") => true,
                // A function, and what it is to be called with; nothing calls it here.
                Some("PartialType" | "MethodType") => {
                    given.first().is_some_and(|function| self.is_harmless_callable(*function))
                }
                Some("property" | "classmethod" | "staticmethod") => {
                    given.iter().all(|part| self.is_part_of_class(*part))
                }
                _ => false,
            };
        }
        call.how.is_new() && tables::makes_class(module, name)
    }

    /// A class that is not dangerous, or an object that is not interpreted.
    fn is_inert(&self, id: NodeId) -> bool {
        let class = self.graph.call(id).map_or(id, |call| call.callable);
        self.names(class).is_some_and(|(module, name)| {
            let imports = matches!(name, "subimport" | "_import_module");
            !imports && (tables::is_data_only(module, name) || !tables::is_dangerous(module, name))
        })
    }

    fn is_plain(&self, id: NodeId) -> bool {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        self.graph
            .text(id)
            .is_some_and(|text| !text.starts_with("__") && !text.is_empty() && text.chars().all(word))
    }
}
